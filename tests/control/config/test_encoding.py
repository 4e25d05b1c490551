"""Files as editors on other systems save them."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyws.control.config import load
from energyws.control.config.encoding import pem_fault
from energyws.control.config.rules import warnings
from energyws.errors import ConfigError
from tests.control.configs import GOOD, KAFKA, SECRET

BOM = b"\xef\xbb\xbf"


def secret_in(tmp_path: Path, data: bytes) -> str | None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    text = KAFKA + f"auth: {{jwt_secret_file: {path}}}\n"
    return load.with_secret_file(load.parse(text, "c.yaml", {})).auth.jwt_secret


@pytest.mark.parametrize("before", [b"", BOM])
@pytest.mark.parametrize("after", [b"", b"\n", b"\r\n", b"\r\n\r\n"])
def test_secret_is_what_the_operator_typed(tmp_path: Path, before: bytes, after: bytes) -> None:
    assert secret_in(tmp_path, before + SECRET.encode() + after) == SECRET
    assert secret_in(tmp_path, before + "é€".encode() + after) == "é€"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_secret_in_utf_16_is_refused_as_such(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError) as refused:
        secret_in(tmp_path, SECRET.encode(encoding))
    (problem,) = refused.value.problems
    assert problem.endswith(": it is not UTF-8 but, by its bytes, UTF-16: save it as UTF-8")
    assert refused.value.kind == "secret"


@pytest.mark.parametrize(
    ("data", "why"), [(BOM, "is empty"), (BOM + b"\r\n", "is empty"), (b"\xe9", "is not UTF-8")]
)
def test_file_without_a_secret_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        secret_in(tmp_path, data)


def test_configuration_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(BOM + GOOD.replace("\n", "\r\n").encode())
    assert load.load(path, env={}).auth.jwt_secret == SECRET


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"-----BEGIN CERTIFICATE-----\r\n", None),
        (b"\x30\x82\x01", None),
        (BOM + b"-----BEGIN", "has a byte order mark on line 1"),
        (b"a\nb\n" + BOM + b"-----BEGIN", "has a byte order mark on line 3"),
        ("-----BEGIN".encode("utf-16"), "is UTF-16 or binary: PEM is plain text"),
        ("-----BEGIN".encode("utf-16-le"), "is UTF-16 or binary: PEM is plain text"),
    ],
)
def test_what_hides_a_certificate_is_found(data: bytes, fault: str | None) -> None:
    found = pem_fault(data)
    assert found is None if fault is None else found is not None and found.startswith(fault)


@pytest.mark.parametrize("key", ["jwt_secret", "jwt_secret_previous"])
def test_byte_order_mark_out_of_a_variable_is_warned_of(key: str) -> None:
    # As `export JWT_SECRET=$(cat FILE)` leaves it.
    env = {f"ENERGYWS_AUTH__{key}": f"\ufeff{SECRET}"}
    (warning,) = warnings(load.parse(GOOD, "c.yaml", env))
    assert warning == f"auth.{key}: begins with a byte order mark, which is part of the secret"


@pytest.mark.parametrize(
    ("token", "warned"),
    [("let me", False), ("let me\r", True), (" let me", True), ("a\nb", True), ("\ufefflet", True)],
)
def test_token_that_no_request_can_show_is_warned_of(token: str, warned: bool) -> None:
    settings = load.parse(GOOD, "c.yaml", {"ENERGYWS_ADMIN__TOKEN": token})
    assert [each.startswith("admin.token: ") for each in warnings(settings)] == [True] * warned
