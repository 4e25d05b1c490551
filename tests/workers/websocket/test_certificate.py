from __future__ import annotations

import time
from pathlib import Path

import pytest

from energyws.settings import Tls
from energyws.testing.certificates import write_pair
from workers.websocket.certificate import UNKNOWN, expires_at

DAY = 86_400


@pytest.mark.parametrize(
    ("days", "least"),
    [((30,), 30), ((-2,), -2), ((90, 20), 20), ((90, 3650, 400), 90)],
    ids=["one", "expired", "chain with an issuer that expires first", "chain"],
)
def test_expiry_is_the_earliest_in_the_chain(
    tmp_path: Path, days: tuple[int, ...], least: int
) -> None:
    found = expires_at(Tls(**write_pair(tmp_path, *days)))
    assert found == pytest.approx(time.time() + least * DAY, abs=60)


def test_without_a_certificate_the_expiry_is_unknown(tmp_path: Path) -> None:
    assert expires_at(None) == UNKNOWN
    (tmp_path / "none.crt").write_text("no certificate")
    for name in ("none.crt", "missing.crt"):
        assert expires_at(Tls(cert=str(tmp_path / name), key="k")) == UNKNOWN
