"""The table says what the code says, and every case can be played."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from energyws.errors import CLOSES, ERROR_CODES, FORBIDDEN_STREAM, UNKNOWN_STREAM
from energyws.testing.conformance.table import (
    ClientCase,
    Result,
    ServerCase,
    client_cases,
    result,
    server_cases,
)
from tests.contract.schemas import strict

CASES = (*server_cases(), *client_cases())


def said_to_clients() -> Iterator[dict[str, Any]]:
    """Every message that the server's part of a case sends as JSON."""
    for case in client_cases():
        for connection in case.connections:
            if refusal := connection.get("refuse"):
                yield refusal["message"]
                yield {**refusal["message"], "type": refusal["type"]}
            for step in connection.get("steps", ()):
                if "send" in step:
                    yield step["send"]


def test_ids_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len({*ids}) == len(ids)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rule_says_who_must_do_what(case: ServerCase | ClientCase) -> None:
    subject = "A server " if isinstance(case, ServerCase) else "A client "
    assert case.rule.startswith(subject)
    assert (" MUST " in case.rule) is not (" SHOULD " in case.rule)
    assert case.rule.endswith(".")


def test_server_of_the_table_says_what_the_service_says() -> None:
    known = {code.code: code for code in ERROR_CODES}
    older = set()
    for message in said_to_clients():
        if message["type"] in ("error", "notice"):
            assert message["message"] == known[message["code"]].message
            if message["type"] == "error" and known[message["code"]].notice:
                older.add(message["code"])
                continue
        strict(message["type"]).validate(message)
    # In the bodies of refusals, and from services before there were notices.
    assert older < {code.code for code in ERROR_CODES if code.notice}


def test_refusals_are_those_of_the_service() -> None:
    known = {code.code: code for code in ERROR_CODES}
    found = {}
    for case in client_cases():
        for connection in case.connections:
            if refusal := connection.get("refuse"):
                code = known[refusal["message"]["code"]]
                found[code.code] = code
                assert code.close is not None
                assert refusal["status"] == code.status
                assert refusal["close"] == {"code": code.close.code, "reason": code.close.reason}
                assert refusal["type"] == ("notice" if code.notice else "error")
    # A code with a status and a close refuses a handshake; not in the table: a failure of ours,
    # and what comes after the handshake.
    refusing = {code.code for code in ERROR_CODES if code.status and code.close}
    assert refusing - {*found} <= {"INTERNAL_ERROR", "HISTORY_UNAVAILABLE"}


def closed_with(case: ClientCase) -> set[int]:
    steps = [step for connection in case.connections for step in connection.get("steps", ())]
    return {step["close"]["code"] for step in steps if "close" in step}


def test_every_close_code_has_a_case() -> None:
    final = {
        code for case in client_cases() if "refused" in case.expect for code in closed_with(case)
    }
    retried = {
        code
        for case in client_cases()
        if "refused" not in case.expect
        for code in closed_with(case)
    }
    assert {close.code for close in CLOSES if close.retry} <= retried
    assert {close.code for close in CLOSES if not close.retry} - {1000} <= final
    # Not ours, but a proxy's or an endpoint's: a client comes back.
    assert {1000, 1001, 1013, 4999} <= retried


def test_wrong_subscriptions_have_a_case() -> None:
    refused = {case.expect.get("refused") for case in client_cases()}
    assert {UNKNOWN_STREAM.code, FORBIDDEN_STREAM.code, "BAD_MESSAGE"} < refused


def test_should_that_is_not_kept_is_a_warning() -> None:
    must, should = (ServerCase("X-1", f"A server {word} x.", ()) for word in ("MUST", "SHOULD"))
    assert result(must, "no", []) == Result(must, "FAIL", "no")
    assert result(should, "no", []) == Result(should, "warn", "no")
    assert result(must, None, []) == Result(must, "ok")
