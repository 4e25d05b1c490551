from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from energyws.testing.certificates import trusting, write_pair


async def _handshake(server: dict[str, str], trusted: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server["cert"], server["key"])

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(trusted))
        writer.close()


def test_client_accepts_only_the_certificate_that_it_trusts(tmp_path: Path) -> None:
    pair, other = write_pair(tmp_path), write_pair(tmp_path, name="other")
    asyncio.run(_handshake(pair, pair["cert"]))
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(_handshake(pair, other["cert"]))


def test_bundle_of_two_trusts_both(tmp_path: Path) -> None:
    pairs = [write_pair(tmp_path, name=name) for name in ("one", "two")]
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("".join(Path(pair["cert"]).read_text() for pair in pairs))
    for pair in pairs:
        asyncio.run(_handshake(pair, str(bundle)))


def test_chain_has_a_certificate_for_each_lifetime(tmp_path: Path) -> None:
    assert Path(write_pair(tmp_path, 30, 60, 90)["cert"]).read_text().count("BEGIN") == 3


def test_expired_certificate_is_refused(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, -1)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        asyncio.run(_handshake(pair, pair["cert"]))
