from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from energyws.errors import BootError
from energyws.schemas.answers import Missing, Reference, Unavailable, Unreachable, path_of
from energyws.schemas.values import BadSchema
from energyws.settings import SchemaRegistry as Where
from energyws.testing import SchemaRegistry
from energyws.testing.certificates import write_pair
from workers.consumer.schemas import registry as module
from workers.consumer.schemas.registry import Registry


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as running:
        yield running


def asked(url: str, **settings: object) -> Registry:
    return Registry(Where(url=url, timeout_seconds=2.0, **settings))  # type: ignore[arg-type]


def test_schema_by_id_by_guid_and_by_version(server: SchemaRegistry) -> None:
    first = server.register("a b/c", "int")
    second = server.register("x", 'syntax = "proto3";', "PROTOBUF", ("a.proto", first))
    registry = asked(server.url + "/")
    found = registry.document(path_of(second.schema_id))
    assert found == registry.document(path_of(second.guid))
    assert (found.kind, found.references) == ("PROTOBUF", (Reference("a.proto", "a b/c", 1),))
    with pytest.raises(Missing):
        registry.document("/schemas/ids/3")


def test_user_and_password(server: SchemaRegistry) -> None:
    server.register("a", "int")
    server.password = "right"
    good = asked(server.url, username="energyws", password="right")
    assert good.document("/schemas/ids/1").kind == "AVRO"
    for registry in (
        asked(server.url),
        asked(server.url, username="energyws", password="canary"),
        asked(server.url, username="energyws"),
    ):
        with pytest.raises(Unavailable, match="401") as refused:
            registry.document("/schemas/ids/1")
        assert refused.value.misconfigured
        assert "canary" not in str(refused.value)


def test_registry_that_is_not_there_or_does_not_answer(server: SchemaRegistry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable, match="refused") as away:
        asked(f"http://127.0.0.1:{port}").document("/schemas/ids/1")
    assert not away.value.misconfigured
    server.quick.clear()
    slow = Registry(Where(url=server.url, timeout_seconds=0.1))
    with pytest.raises(Unreachable):
        slow.document("/schemas/ids/1")


def test_answer_that_is_too_large(server: SchemaRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100)
    server.register("s", "x" * 100)
    with pytest.raises(BadSchema, match="more than 100 bytes"):
        asked(server.url).document("/schemas/ids/1")
    # A page of another server is no schema.
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10)
    server.wrong = True
    with pytest.raises(Unavailable, match="more than 10 bytes"):
        asked(server.url).document("/schemas/ids/1")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "http://[::1", "http://h/\x00", "http://no such host/"]
)
def test_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(Unreachable):
        asked(url).document("/schemas/ids/1")


class TlsServer:
    """Answers each connection with the same schema. Its certificate is what `pair` names."""

    def __init__(self, pair: dict[str, str]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair["cert"], pair["key"])
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            with (
                connected,
                contextlib.suppress(OSError),
                self._context.wrap_socket(connected, server_side=True) as inside,
            ):
                inside.recv(4096)
                inside.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"schema": "int"}')


def test_certificate_must_be_trusted(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    with TlsServer(pair) as server:
        with pytest.raises(Unreachable, match=r"schema_registry\.ca") as refused:
            asked(server.url).document("/schemas/ids/1")
        assert refused.value.misconfigured
        assert asked(server.url, ca=pair["cert"]).document("/schemas/ids/1").text == "int"


def test_authorities_that_change_on_disk_are_noticed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = write_pair(tmp_path / "old"), write_pair(tmp_path / "new")
    authorities = tmp_path / "ca.crt"
    authorities.write_bytes(Path(old["cert"]).read_bytes())
    with TlsServer(new) as server:
        registry = asked(server.url, ca=str(authorities))
        with pytest.raises(Unreachable, match="not trusted"):
            registry.document("/schemas/ids/1")
        authorities.write_bytes(Path(new["cert"]).read_bytes())
        assert registry.document("/schemas/ids/1").text == "int"
        # Half of the file, or none, is no change.
        authorities.write_bytes(Path(new["cert"]).read_bytes()[:100])
        assert registry.document("/schemas/ids/1").text == "int"
        authorities.unlink()
        assert registry.document("/schemas/ids/1").text == "int"


def test_plain_http_where_tls_is_expected(server: SchemaRegistry) -> None:
    with pytest.raises(Unreachable, match="TLS") as refused:
        asked(server.url.replace("http:", "https:")).document("/schemas/ids/1")
    assert refused.value.misconfigured


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no PEM")
    for name in ("none", "text"):
        with pytest.raises(BootError, match=r"schema_registry\.ca"):
            asked("https://registry.example", ca=str(tmp_path / name))
