"""Why a connection failed, in plain words and without secrets."""

from __future__ import annotations

import errno
import socket
import ssl

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage, InvalidStatus, InvalidUpgrade
from websockets.http11 import Response

from energyws.client.codes import ABNORMAL
from energyws.client.failure import (
    Failure,
    Kind,
    NoToken,
    Refused,
    address,
    explain,
    without_secrets,
)

ADDRESS = "host.example:8080"


def certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


def no_answer(cause: Exception) -> InvalidMessage:
    error = InvalidMessage("no answer")
    error.__cause__ = cause
    return error


FAILURES: list[tuple[Exception, Kind, str]] = [
    (socket.gaierror(-2, "Name or service not known"), "host", "host.example is not a known host"),
    (UnicodeError("label too long"), "host", "host.example is not a known host"),
    (
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
        "connection",
        f"nothing listens at {ADDRESS}",
    ),
    (ConnectionRefusedError(22, "no"), "connection", f"nothing listens at {ADDRESS}"),
    (
        OSError("Multiple exceptions: [Errno 111] a, [Errno 101] b"),
        "connection",
        f"nothing listens at {ADDRESS}",
    ),
    (OSError(errno.EHOSTUNREACH, "no"), "connection", f"{ADDRESS} cannot be reached"),
    (OSError(errno.EMFILE, "no"), "connection", "this process has too many files open"),
    (OSError(errno.EIO, "no"), "connection", f"no connection to {ADDRESS}"),
    (tls("WRONG_VERSION_NUMBER"), "tls", f"{ADDRESS} does not speak TLS"),
    (tls("NO_SHARED_CIPHER"), "tls", f"{ADDRESS} and this client have no TLS version in common"),
    (
        certificate(10),
        "certificate",
        f"the certificate of {ADDRESS} is not trusted: it has expired",
    ),
    (
        certificate(1),
        "certificate",
        f"the certificate of {ADDRESS} is not trusted: it cannot be verified",
    ),
    (no_answer(ValueError("SSH-2.0")), "websocket", f"{ADDRESS} does not speak WebSocket"),
    (TimeoutError(), "timeout", f"{ADDRESS} does not answer"),
    (
        ConnectionResetError(),
        "cut",
        f"{ADDRESS} ended the connection before the handshake was over",
    ),
    (
        no_answer(EOFError()),
        "cut",
        f"{ADDRESS} ended the connection before the handshake was over",
    ),
    (NoToken("no token: OSError: offline"), "token", "no token: OSError: offline"),
]


@pytest.mark.parametrize(("error", "kind", "text"), FAILURES, ids=lambda each: repr(each)[:40])
def test_network_error_is_explained(error: Exception, kind: Kind, text: str) -> None:
    assert explain(error, ADDRESS) == Failure(kind, text, ABNORMAL, None)


@pytest.mark.parametrize("error", [Refused("no"), ZeroDivisionError(), KeyError("x")], ids=repr)
def test_any_other_error_is_not_a_failure(error: Exception) -> None:
    assert explain(error, ADDRESS) is None


def refusal(status: int, body: bytes) -> InvalidStatus:
    return InvalidStatus(Response(status, "no", Headers(), body))


@pytest.mark.parametrize(
    ("body", "text", "code"),
    [
        (
            orjson.dumps({"message": "Invalid token", "code": "UNAUTHORIZED"}),
            "Invalid token",
            "UNAUTHORIZED",
        ),
        (orjson.dumps({"message": "Invalid token", "code": 7}), "Invalid token", None),
        (b"", None, None),
        (b"{}", None, None),
        (b"[1]", None, None),
        (b"<html>", None, None),
    ],
)
def test_refusal_has_the_message_from_the_service(
    body: bytes, text: str | None, code: str | None
) -> None:
    expected = "HTTP 401" if text is None else f"HTTP 401: {text}"

    assert explain(refusal(401, body), ADDRESS) == Failure("status", expected, 401, code)


def test_invalid_handshake_response_is_not_a_websocket() -> None:
    text = "the answer to the handshake is not a WebSocket's"

    assert explain(InvalidUpgrade("Upgrade"), ADDRESS) == Failure("websocket", text, 101)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://host.example/ws/energy", "host.example:80"),
        ("wss://host.example", "host.example:443"),
        ("ws://user:secret@host.example:8080/?token=secret", "host.example:8080"),
        ("ws://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_address_is_host_and_port(url: str, expected: str) -> None:
    assert address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/ws/energy?token=CANARY",
        "http://user:CANARY@127.0.0.1/ws/energy?token=CANARY",
        "127.0.0.1:8080/ws/energy",
        "ws://127.0.0.1:0/",
        "ws://127.0.0.1:99999/",
        "ws://127.0.0.1:port/",
        "ws:///ws/energy",
        "ws://[::1/",
        "ws://127.0.0.1/#CANARY",
        "ws://127.0.0.1/a b",
        "ws://127.0.0.1/\r\nX: y",
    ],
)
def test_invalid_url_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL") as refused:
        address(url)
    assert "CANARY" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_url_is_shown_without_its_secrets_on_one_line() -> None:
    assert without_secrets("ws://me:CANARY@h/a\r\nb?token=CANARY#CANARY") == "ws://h/a b"
