"""The head of a request: its limits, its request line and its fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from energyws.errors import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    NOT_IMPLEMENTED,
    URI_TOO_LONG,
    VERSION_NOT_SUPPORTED,
    ErrorCode,
)
from energyws.protocol.http.request import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    BadRequest,
    Request,
    checked,
    head_size,
    parse_line,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def refusal(data: bytes) -> ErrorCode | None:
    """The error that the beginning of a request is refused with; None if it is accepted."""
    try:
        if head_size(data) is not None:
            parse_line(data)
    except BadRequest as bad:
        return bad.error
    return None


@given(st.integers(0, len(GET) - 1), st.binary(max_size=20))
def test_head_is_complete_with_its_last_byte(cut: int, behind: bytes) -> None:
    assert head_size(GET[:cut]) is None
    assert head_size(GET + behind) == len(GET)


@pytest.mark.parametrize(
    ("beginning", "error"),
    [
        (b"", None),
        (b"\r", None),
        (b"G", None),
        (b"GET", None),
        (b"GET ", None),
        (b"GET / HTTP/1.1\r", None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\nA: b\r", None),
        (b"\x16", BAD_REQUEST),
        (b"\n", BAD_REQUEST),
        (b" GET", BAD_REQUEST),
        (b"G\x00", BAD_REQUEST),
        (b"GET / HTTP/1.1\n", BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nA: b\n", BAD_REQUEST),
        (b"BREW / HTTP/1.1\r\n", NOT_IMPLEMENTED),
        (b"GET / HTTP/2.0\r\n", VERSION_NOT_SUPPORTED),
    ],
)
def test_beginning_is_refused_as_soon_as_it_is_invalid(
    beginning: bytes, error: ErrorCode | None
) -> None:
    assert refusal(beginning) == error


@pytest.mark.parametrize(
    ("target", "detail"),
    [("/?key=\xe4", "its target is not percent-encoded"), ("/ /", "the request line is none")],
)
def test_target_with_letters_beyond_ascii_is_told_from_no_request(target: str, detail: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_line(line(target.encode()))
    assert refused.value.detail == detail


def line(target: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n" % target


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (line(b"/" * MAX_TARGET_BYTES) + b"\r\n", None),
        (line(b"/" * (MAX_TARGET_BYTES + 1)) + b"\r\n", URI_TOO_LONG),
        (b"GET " + b"/" * MAX_HEAD_BYTES, URI_TOO_LONG),
        (line(b"/") + b"A: b\r\n" * (MAX_FIELDS - 1) + b"\r\n", None),
        (line(b"/") + b"A: b\r\n" * MAX_FIELDS + b"\r\n", HEADERS_TOO_LARGE),
        (line(b"/") + b"A: " + b"b" * (MAX_HEAD_BYTES - len(line(b"/")) - 7) + b"\r\n\r\n", None),
        (
            line(b"/") + b"A: " + b"b" * (MAX_HEAD_BYTES - len(line(b"/")) - 6) + b"\r\n\r\n",
            HEADERS_TOO_LARGE,
        ),
    ],
)
def test_limits_are_inclusive(head: bytes, error: ErrorCode | None) -> None:
    assert refusal(head) == error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /a?b=c?d HTTP/1.1", ("GET", "/a", "b=c?d", 1)),
        ("GET /a HTTP/1.0", ("GET", "/a", "", 0)),
        ("GET //a/../b HTTP/1.1", ("GET", "//a/../b", "", 1)),
        ("GET http://h:1/a?b HTTP/1.1", ("GET", "/a", "b", 1)),
        ("GET HTTPS://h?b HTTP/1.1", ("GET", "/", "b", 1)),
        ("GET http://h HTTP/1.1", ("GET", "/", "", 1)),
        ("GET ws://h/ws/energy HTTP/1.1", ("GET", "/ws/energy", "", 1)),
        ("OPTIONS * HTTP/1.1", ("OPTIONS", "*", "", 1)),
        ("CONNECT h:443 HTTP/1.1", ("CONNECT", "", "", 1)),
    ],
)
def test_every_form_of_a_target_is_parsed(text: str, expected: tuple[str, str, str, int]) -> None:
    assert parse_line(text.encode() + b"\r\n\r\n") == expected


def request(*fields: tuple[str, str], minor: int = 1) -> Request:
    return Request("GET", "/", "", minor, CIMultiDict([("Host", "x"), *fields]))


@pytest.mark.parametrize(
    ("one", "persists", "has_body"),
    [
        (request(), True, False),
        (request(minor=0), False, False),
        (request(("Connection", "keep-alive"), minor=0), False, False),
        (request(("Connection", "foo, Close")), False, False),
        (request(("Content-Length", "0")), True, False),
        (request(("Content-Length", "10")), False, True),
        (request(("Transfer-Encoding", "chunked")), False, True),
    ],
)
def test_connection_stays_open_unless_the_request_closes_it(
    one: Request, persists: bool, has_body: bool
) -> None:
    assert (one.persists, one.has_body) == (persists, has_body)


@pytest.mark.parametrize("host", ["", "x", "x:80", "192.0.2.1", "[::1]", "[::1]:8080", "a_b.c-d"])
def test_valid_host_is_accepted(host: str) -> None:
    one = Request("GET", "/", "", 1, CIMultiDict([("Host", host)]))
    assert checked(one) is one


@pytest.mark.parametrize("host", ["a/b", "a b", "a@b", "[::1", "a:b", "a?", "é"])
def test_invalid_host_is_refused(host: str) -> None:
    with pytest.raises(BadRequest, match="BAD_REQUEST"):
        checked(Request("GET", "/", "", 1, CIMultiDict([("Host", host)])))


@pytest.mark.parametrize(("minor", "hosts"), [(1, 0), (1, 2), (0, 2)])
def test_request_needs_one_host(minor: int, hosts: int) -> None:
    fields = CIMultiDict([("Host", "x")] * hosts)
    with pytest.raises(BadRequest, match="BAD_REQUEST"):
        checked(Request("GET", "/", "", minor, fields))


def test_http_1_0_needs_no_host() -> None:
    one = Request("GET", "/", "", 0, CIMultiDict())
    assert checked(one) is one


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "sec-websocket-version", "Origin"])
def test_repeated_field_that_must_be_unique_is_refused(name: str) -> None:
    assert checked(request((name, "a")))
    with pytest.raises(BadRequest, match="BAD_REQUEST"):
        checked(request((name, "a"), (name, "a")))


@pytest.mark.parametrize(
    "target",
    [b"/a#b", b"*", b"a", b"ftp://h/a", b"http://", b"/a b", b"/\xe4", b"/\x00"],
)
def test_invalid_target_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest, match="BAD_REQUEST"):
        parse_line(line(target) + b"\r\n")


def test_tokens_of_all_fields_with_a_name_are_in_lower_case() -> None:
    one = request(("Upgrade", "WebSocket , h2c"), ("upgrade", "X"))
    assert one.tokens("Upgrade") == {"websocket", "h2c", "x"}
