"""Which failures end the iteration, and when the client retries after the others."""

from __future__ import annotations

import pytest

from energyws.client.backoff import BACKOFF_FIRST_SECONDS
from energyws.client.codes import ABNORMAL, FATAL_ERRORS
from energyws.client.failure import Failure, Kind, Refused
from energyws.client.retry import Retry
from energyws.errors import CLOSES, ERROR_CODES, NORMAL

UNAUTHORIZED = (401, 4401)
FINAL = sorted(
    {close.code for close in CLOSES if not close.retry} - {NORMAL.code, *UNAUTHORIZED} | {403, 404}
)
TEMPORARY = sorted(
    {close.code for close in CLOSES if close.retry}
    | {each.status for each in ERROR_CODES if each.status >= 500}
    | {NORMAL.code, 1001, ABNORMAL, 4999, 429}
)


def failed(status: int = ABNORMAL, code: str | None = None, kind: Kind = "closed") -> Failure:
    return Failure(kind, "because", status, code)


@pytest.mark.parametrize("status", FINAL)
def test_final_status_ends_the_iteration(status: int) -> None:
    with pytest.raises(Refused, match="because") as refused:
        Retry(has_fresh_tokens=True).seconds(failed(status, "CODE"), None)

    assert (refused.value.code, refused.value.close) == ("CODE", status)


@pytest.mark.parametrize("status", TEMPORARY)
def test_any_other_status_is_retried(status: int) -> None:
    seconds = Retry(has_fresh_tokens=False).seconds(failed(status), None)

    assert 0 <= seconds <= BACKOFF_FIRST_SECONDS


@pytest.mark.parametrize("code", sorted(FATAL_ERRORS))
def test_impossible_subscription_ends_the_iteration(code: str) -> None:
    with pytest.raises(Refused, match="because") as refused:
        Retry(has_fresh_tokens=True).seconds(failed(NORMAL.code, code), 1.0)

    assert (refused.value.code, refused.value.close) == (code, None)


def test_delay_from_the_service_is_used() -> None:
    assert Retry(has_fresh_tokens=False).seconds(failed(1012), 7.5) == 7.5


@pytest.mark.parametrize("status", UNAUTHORIZED)
def test_refused_token_that_cannot_change_ends_the_iteration(status: int) -> None:
    with pytest.raises(Refused):
        Retry(has_fresh_tokens=False).seconds(failed(status), None)


@pytest.mark.parametrize("status", UNAUTHORIZED)
def test_second_refused_fresh_token_ends_the_iteration(status: int) -> None:
    retry = Retry(has_fresh_tokens=True)
    retry.seconds(failed(status), None)

    with pytest.raises(Refused):
        retry.seconds(failed(status), None)


@pytest.mark.parametrize("between", ["success", "another failure"])
def test_only_consecutive_refusals_count(between: str) -> None:
    retry = Retry(has_fresh_tokens=True)
    retry.seconds(failed(401), None)
    if between == "success":
        retry.succeeded()
    else:
        retry.seconds(failed(1012), None)

    retry.seconds(failed(401), None)


def test_success_resets_the_backoff() -> None:
    retry = Retry(has_fresh_tokens=False)
    for _ in range(30):
        retry.seconds(failed(), None)
    retry.succeeded()

    assert retry.seconds(failed(), None) <= BACKOFF_FIRST_SECONDS
