from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.frames import EXTERNAL_CLOSE_CODES

from energyws.errors import (
    CLOSES,
    ERROR_CODES,
    NORMAL,
    BootError,
    Close,
    ConfigError,
    EnergywsError,
    ErrorCode,
    ExitCode,
)
from energyws.protocol import frame

PROTOCOL_PAGE = Path(__file__).parent.parent / "docs" / "protocol.md"

every_close = pytest.mark.parametrize("close", CLOSES, ids=lambda close: close.reason or "normal")
every_error = pytest.mark.parametrize("error", ERROR_CODES, ids=lambda error: error.code)


def documented(section: str) -> list[list[str]]:
    """The rows of the table in a section of docs/protocol.md, without the header."""
    _, _, rest = PROTOCOL_PAGE.read_text().partition(f"\n## {section}\n")
    body, _, _ = rest.partition("\n## ")
    rows = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_close_reasons_are_unique() -> None:
    assert len({close.reason for close in CLOSES}) == len(CLOSES)


def test_close_code_decides_whether_to_reconnect() -> None:
    assert len({(close.code, close.retry) for close in CLOSES}) == len(
        {close.code for close in CLOSES}
    )


@every_close
def test_close_code_may_be_sent_by_a_server(close: Close) -> None:
    assert close.code in EXTERNAL_CLOSE_CODES or 4000 <= close.code <= 4999


@every_close
def test_close_reason_fits_into_a_control_frame(close: Close) -> None:
    assert len(frame.close(close.code, close.reason)) == 4 + len(close.reason.encode())
    assert bool(close.reason) is (close is not NORMAL)


def test_error_codes_and_messages_are_unique() -> None:
    assert len({error.code for error in ERROR_CODES}) == len(ERROR_CODES)
    assert len({error.message for error in ERROR_CODES}) == len(ERROR_CODES)


@every_error
def test_error_code_is_upper_snake_and_has_a_message(error: ErrorCode) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", error.code)
    assert error.message


@every_error
def test_status_of_an_error_is_an_http_error_status(error: ErrorCode) -> None:
    if error.status:
        assert 400 <= HTTPStatus(error.status) <= 599


@every_error
def test_error_close_is_in_the_table(error: ErrorCode) -> None:
    assert error.close is None or error.close in CLOSES


@every_error
def test_status_and_close_agree_whether_to_reconnect(error: ErrorCode) -> None:
    if error.status and error.close is not None:
        # 429: later, or once another connection of this client has ended (RFC 6585 section 4).
        assert error.close.retry is (error.status >= 500 or error.status == 429)


def test_exit_codes_are_distinct_and_below_those_that_shells_use() -> None:
    codes = [code.value for code in ExitCode.__members__.values()]

    assert len(set(codes)) == len(codes)
    assert codes[0] == 0
    assert all(0 <= code < 126 for code in codes)


def test_config_error_lists_every_problem() -> None:
    error = ConfigError(["server.port: too large", "kafka.brokers: missing"])

    assert error.problems == ["server.port: too large", "kafka.brokers: missing"]
    assert str(error).splitlines() == error.problems


@pytest.mark.parametrize("kind", [ConfigError, BootError])
def test_own_errors_have_one_root(kind: type[Exception]) -> None:
    assert issubclass(kind, EnergywsError)


def test_error_codes_are_documented() -> None:
    expected = [
        [
            f"`{error.code}`",
            str(error.status or ""),
            str(error.close.code) if error.close else "",
            error.message,
        ]
        for error in ERROR_CODES
    ]

    assert documented("Error codes") == expected


def test_notices_are_documented() -> None:
    named = [row[0].strip("`") for row in documented("Notices") if row[0].startswith("`")]

    assert named == [error.code for error in ERROR_CODES if error.notice]


@every_error
def test_client_may_reconnect_after_a_notice(error: ErrorCode) -> None:
    if error.notice:
        assert error.close is None or error.close.retry
        assert error.status in (0, 503)


def test_close_codes_are_documented() -> None:
    expected = [[str(close.code), close.reason, "yes" if close.retry else "no"] for close in CLOSES]

    assert documented("Close codes") == expected
