"""Errors as values: exit codes, WebSocket closes, and the error codes that clients receive.

The tables of `docs/protocol.md` are those of this file; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal


class EnergywsError(Exception):
    """Root of every error that energyws raises on purpose."""


# Why a configuration cannot be used: its own keys, or a certificate or secret file that it names.
# Here because ConfigError carries it and workers report it, which import no control package.
FaultKind = Literal["configuration", "certificate", "secret", "deny_list"]


class ConfigError(EnergywsError):
    """A configuration that cannot be used; `problems` has every fault found, one line each."""

    def __init__(self, problems: list[str], kind: FaultKind = "configuration") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.kind: Final = kind


class BootError(EnergywsError):
    """A process that cannot start, and would fail again if it were restarted."""


class ExitCode(IntEnum):
    """Process exit codes of the supervisor and of its children.

    The supervisor never restarts a child that left with `CONFIG` or `BOOT`: it would fail
    again (gunicorn's WORKER_BOOT_ERROR is the precedent).
    """

    OK = 0
    FAILURE = 1
    CONFIG = 2
    BOOT = 3
    CRASH_LOOP = 4
    ORPHANED = 5


@dataclass(frozen=True, slots=True)
class Close:
    """A WebSocket close (RFC 6455 section 7.4).

    `retry` says what a client should do. True: reconnect with backoff and resume; False: stay away,
    since the same attempt would fail again.
    """

    code: int
    reason: str
    retry: bool


NORMAL: Final = Close(1000, "", False)
PROTOCOL_VIOLATION: Final = Close(1002, "protocol error", False)
INVALID_TEXT: Final = Close(1007, "text is not UTF-8", False)
INVALID_DEFLATE: Final = Close(1007, "invalid compressed data", False)
TOO_MANY_MESSAGES: Final = Close(1008, "too many messages", True)
TOO_BIG: Final = Close(1009, "message too big", False)
INTERNAL: Final = Close(1011, "internal error", True)
RESTART: Final = Close(1012, "service restart", True)
NO_PONG: Final = Close(4000, "no pong", True)
SLOW: Final = Close(4008, "too slow", True)
UNAUTHORIZED_CLOSE: Final = Close(4401, "unauthorized", False)
TOKEN_EXPIRED_CLOSE: Final = Close(4401, "token expired", False)
FORBIDDEN_CLOSE: Final = Close(4403, "forbidden", False)
LIMIT_CLOSE: Final = Close(4429, "too many connections", True)
UNAVAILABLE_CLOSE: Final = Close(4503, "try again later", True)

# All of the above, in the order of docs/protocol.md.
CLOSES: Final = tuple(each for each in list(globals().values()) if isinstance(each, Close))


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One `code` of an `error` or `notice` message.

    status: the HTTP status of a refusal with this code; 0 if there is none.
    close: the close that follows it; None if the connection stays open.
    notice: sent as a `notice`, because it resolves itself, or the client only has to reconnect.
    Pages show an alarm at any `error`; a client without fault must not get one.
    """

    code: str
    message: str
    status: int = 0
    close: Close | None = None
    notice: bool = False


UNAUTHORIZED: Final = ErrorCode("UNAUTHORIZED", "Invalid token", 401, UNAUTHORIZED_CLOSE)
TOKEN_EXPIRED: Final = ErrorCode("TOKEN_EXPIRED", "Token expired", 401, TOKEN_EXPIRED_CLOSE)
TOKEN_EXPIRING: Final = ErrorCode(
    "TOKEN_EXPIRING", "Token expires soon: send a fresh one", notice=True
)
FORBIDDEN_ORIGIN: Final = ErrorCode(
    "FORBIDDEN_ORIGIN", "This origin may not connect", 403, FORBIDDEN_CLOSE
)
FORBIDDEN_STREAM: Final = ErrorCode("FORBIDDEN_STREAM", "The token does not allow this stream", 403)
FORBIDDEN_KEY: Final = ErrorCode("FORBIDDEN_KEY", "The token does not allow these keys", 403)
NOT_FOUND: Final = ErrorCode("NOT_FOUND", "No such path", 404)
UPGRADE_REQUIRED: Final = ErrorCode(
    "UPGRADE_REQUIRED", "This path speaks WebSocket version 13 only", 426
)
BAD_REQUEST: Final = ErrorCode("BAD_REQUEST", "The request cannot be understood", 400)
METHOD_NOT_ALLOWED: Final = ErrorCode(
    "METHOD_NOT_ALLOWED", "This path takes GET and HEAD only", 405
)
URI_TOO_LONG: Final = ErrorCode("URI_TOO_LONG", "The request's target is too long", 414)
HEADERS_TOO_LARGE: Final = ErrorCode(
    "HEADERS_TOO_LARGE", "The request's header fields are too large or too many", 431
)
NOT_IMPLEMENTED: Final = ErrorCode("NOT_IMPLEMENTED", "Unknown request method", 501)
VERSION_NOT_SUPPORTED: Final = ErrorCode(
    "VERSION_NOT_SUPPORTED", "Only HTTP/1.1 and HTTP/1.0 are understood", 505
)
TOO_MANY_CONNECTIONS: Final = ErrorCode(
    "TOO_MANY_CONNECTIONS", "The service is full: try again later", 503, UNAVAILABLE_CLOSE
)
CONNECTION_LIMIT: Final = ErrorCode(
    "CONNECTION_LIMIT",
    "Too many connections from this address, or with this subject or token",
    429,
    LIMIT_CLOSE,
)
SHUTTING_DOWN: Final = ErrorCode(
    "SHUTTING_DOWN", "The service is restarting: try again", 503, UNAVAILABLE_CLOSE, notice=True
)
KEYS_UNAVAILABLE: Final = ErrorCode(
    "KEYS_UNAVAILABLE",
    "Tokens cannot be checked yet: try again",
    503,
    UNAVAILABLE_CLOSE,
    notice=True,
)
TOO_MANY_REQUESTS: Final = ErrorCode(
    "TOO_MANY_REQUESTS", "Too much history is being read: try again", 429
)
INTERNAL_ERROR: Final = ErrorCode("INTERNAL_ERROR", "Internal error", 500, INTERNAL)
BAD_JSON: Final = ErrorCode("BAD_JSON", "The message is not a JSON object")
BAD_MESSAGE: Final = ErrorCode("BAD_MESSAGE", "The message has a wrong field")
UNKNOWN_TYPE: Final = ErrorCode("UNKNOWN_TYPE", "Unknown message type")
UNKNOWN_STREAM: Final = ErrorCode("UNKNOWN_STREAM", "Unknown stream")
NOT_KEYED: Final = ErrorCode("NOT_KEYED", "The records of this stream have no keys", 400)
TOO_MANY_KEYS: Final = ErrorCode("TOO_MANY_KEYS", "The subscription asks for too many keys", 400)
SNAPSHOT_UNAVAILABLE: Final = ErrorCode("SNAPSHOT_UNAVAILABLE", "This stream has no snapshots", 400)
STREAM_UNAVAILABLE: Final = ErrorCode(
    "STREAM_UNAVAILABLE",
    "The topic cannot be read yet: the subscription waits for it",
    503,
    notice=True,
)
HISTORY_UNAVAILABLE: Final = ErrorCode(
    "HISTORY_UNAVAILABLE",
    "What was asked back cannot be read at present: try again",
    503,
    UNAVAILABLE_CLOSE,
    notice=True,
)
RATE_LIMITED: Final = ErrorCode("RATE_LIMITED", "Too many messages", 0, TOO_MANY_MESSAGES)

# All of the above, in the order of docs/protocol.md.
ERROR_CODES: Final = tuple(each for each in list(globals().values()) if isinstance(each, ErrorCode))
