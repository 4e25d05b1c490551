"""The client's own table of codes is that of the service."""

from __future__ import annotations

from energyws import errors
from energyws.client import codes


def test_close_codes_are_those_of_the_service() -> None:
    assert errors.NORMAL.code == codes.NORMAL
    assert errors.TOO_BIG.code == codes.TOO_BIG
    assert {errors.UNAUTHORIZED_CLOSE.code, errors.UNAUTHORIZED.status} == codes.UNAUTHORIZED


def test_fatal_statuses_are_those_that_the_service_does_not_want_retried() -> None:
    closes = {close.code for close in errors.CLOSES if not close.retry}
    statuses = {each.status for each in errors.ERROR_CODES if each.close and not each.close.retry}
    other = {errors.NORMAL.code, *codes.UNAUTHORIZED}
    assert (closes | statuses | {errors.NOT_FOUND.status}) - other == codes.FATAL


def test_error_codes_exist() -> None:
    named = {
        codes.BAD_MESSAGE,
        codes.KEYS_UNAVAILABLE,
        codes.STREAM_UNAVAILABLE,
        codes.TOKEN_EXPIRING,
        *codes.FATAL_ERRORS,
    }
    assert named - {codes.NOT_FILTERED} <= {each.code for each in errors.ERROR_CODES}
