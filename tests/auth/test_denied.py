"""The deny list: what its lines mean, and which of them are none."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.auth.denied import Denied, Entry, dump, parse, token_id
from energyws.auth.token_cache import VerifiedClaims
from tests.principals import principal

ALICE, BOB = "https://alice.example", "https://bob.example"


def token(
    subject: str = "me",
    *,
    jti: str | None = None,
    issued: float | None = 1000.0,
    issuer: str | None = ALICE,
) -> VerifiedClaims:
    id_ = None if jti is None else token_id(jti)
    return principal(subject, issuer=issuer, issued=issued, id_=id_).token


def denied(*lines: str) -> Denied:
    entries, bad = parse("\n".join(lines).encode())
    assert bad == []
    return Denied(entries)


def test_empty_list_denies_nothing() -> None:
    for nothing in (Denied(), denied(), denied("", "  ", "# a comment", '  # {"sub": "me"}')):
        assert not nothing.covers(token(jti="1"))
        assert not nothing.covers(token(issued=None))


def test_token_is_denied_by_its_id() -> None:
    found = denied('{"jti": "1"}', '{"jti": "2", "iss": "https://bob.example"}')

    assert found.covers(token(jti="1"))
    assert found.covers(token(jti="1", issuer=None))
    assert not found.covers(token(jti="11"))
    assert not found.covers(token("1"))
    # Another issuer may use the same id.
    assert found.covers(token(jti="2", issuer=BOB))
    assert not found.covers(token(jti="2"))
    assert not found.covers(token(jti="2", issuer=None))


def test_tokens_of_a_subject_are_denied_up_to_a_time() -> None:
    found = denied('{"sub": "me", "before": 1000}')

    assert found.covers(token(issued=999.9))
    assert not found.covers(token(issued=1000.0))
    assert not found.covers(token("you", issued=0.0))
    # Nobody knows that it is newer.
    assert found.covers(token(issued=None))


def test_all_tokens_of_a_subject_are_denied_without_a_time() -> None:
    found = denied('{"sub": "me"}')

    assert found.covers(token(issued=1e12))
    assert found.covers(token(issued=None))
    assert not found.covers(token("mee"))


def test_entry_of_an_issuer_concerns_its_tokens_only() -> None:
    found = denied(
        '{"sub": "me", "before": 10, "iss": "https://alice.example"}',
        '{"sub": "me", "before": 5}',
        # The later time counts, whatever the order.
        '{"sub": "me", "before": 1, "iss": "https://alice.example"}',
    )

    assert found.covers(token(issued=9.0, issuer=ALICE))
    assert found.covers(token(issued=4.0, issuer=BOB))
    assert not found.covers(token(issued=9.0, issuer=BOB))
    assert not found.covers(token(issued=9.0, issuer=None))


BAD = {
    "canary": "not a JSON object",
    '["canary"]': "not a JSON object",
    '{"jti": "canary"': "not a JSON object",
    "[" * 100_000: "not a JSON object",
    "{}": "needs jti or sub",
    '{"before": 5}': "needs jti or sub",
    '{"jti": "canary", "sub": "canary"}': "needs jti or sub, and not both",
    '{"jti": "canary", "before": 5}': "before goes with sub",
    '{"canary": 1, "sub": "me"}': "an unknown key",
    '{"Sub": "canary"}': "an unknown key",
    '{"jti": ""}': "jti must be a text",
    '{"jti": 5}': "jti must be a text",
    '{"sub": null}': "sub must be a text",
    '{"sub": "me", "iss": ["canary"]}': "iss must be a text",
    '{"sub": "me", "before": "2026-01-01"}': "before must be a number",
    '{"sub": "me", "before": null}': "before must be a number",
    '{"sub": "me", "before": true}': "before must be a number",
    '{"sub": "me", "before": NaN}': "not a JSON object",
    '{"sub": "me", "before": 1e400}': "not a JSON object",
    '{"sub": "me", "before": %s}' % ("9" * 400): "not a JSON object",
}


@pytest.mark.parametrize("line", BAD, ids=[line[:40] for line in BAD])
def test_bad_line_is_reported_and_the_others_count(line: str) -> None:
    entries, bad = parse(f'# a list\n{{"jti": "1"}}\n{line}\r\n{{"sub": "me"}}'.encode())

    assert [(each.jti, each.sub) for each in entries] == [("1", None), (None, "me")]
    (found,) = bad
    assert found.number == 3
    assert found.reason.startswith(BAD[line])
    assert "canary" not in found.reason


def test_line_that_is_not_utf_8_is_bad() -> None:
    entries, bad = parse(b'{"sub": "\xff"}\n{"sub": "me"}\n')
    assert (len(entries), [each.number for each in bad]) == (1, [1])


def test_byte_order_mark_is_no_part_of_the_first_line() -> None:
    entries, bad = parse(b'\xef\xbb\xbf{"sub": "me"}\r\n')
    assert (entries, bad) == ([Entry(None, "me", math.inf, None)], [])


names = st.text(min_size=1)
entries_of = st.builds(Entry, names, st.none(), st.just(math.inf), st.none() | names) | st.builds(
    Entry, st.none(), names, st.floats(allow_nan=False, allow_infinity=False), st.none() | names
)


@given(st.lists(entries_of))
def test_dump_is_the_inverse_of_parse(entries: list[Entry]) -> None:
    assert parse(dump(entries)) == (entries, [])


@given(st.binary())
def test_any_file_gives_entries_and_bad_lines(data: bytes) -> None:
    entries, bad = parse(data)
    Denied(entries)
    assert len(entries) + len(bad) <= len(data.splitlines())


@given(names)
def test_number_of_an_id_is_small(jti: str) -> None:
    assert 0 <= token_id(jti) < 1 << 56
    assert token_id(jti) == token_id(json.loads(json.dumps(jti)))
