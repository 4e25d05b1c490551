"""The behaviour of both clients as a table, and a server that plays each row of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from energyws import errors
from energyws.errors import Close, ErrorCode
from energyws.protocol import messages
from energyws.testing import eventually
from tests.clients import first_frame

# The number of the reading that ends a row, and the position before any reading.
LAST: Final = 99
START: Final = "aa-0.0"

Step = Callable[["Playing"], None]


class Playing:
    """One connection of a row, on the server's side."""

    def __init__(self, connection: ServerConnection, stage: Stage) -> None:
        self.connection = connection
        self.stage = stage

    def say(self, message: bytes | dict[str, Any]) -> None:
        raw = message if isinstance(message, bytes) else orjson.dumps(message)
        self.connection.send(raw.decode())

    def hear(self) -> dict[str, Any]:
        """The next message of the client."""
        message: dict[str, Any] = orjson.loads(self.connection.recv())
        self.stage.heard.append(message)
        return message


def subscribed(playing: Playing) -> None:
    """Answer the subscription; the client gets the position that it resumes from."""
    resume = playing.hear().get("resume", {}).get("energy")
    reply = {"position": resume or START}
    if resume is not None:
        reply |= {"recovered": True, "replayed": 0}
    playing.say({"type": "subscribed", "streams": ["energy"], "positions": {"energy": reply}})


def unanswered(playing: Playing) -> None:
    """Read the subscription, but do not answer it."""
    playing.hear()


def wait(playing: Playing) -> None:
    """Wait until the client ends the connection."""
    while True:
        playing.hear()


def raw(text: str) -> Step:
    return lambda playing: playing.say(text.encode())


def data(n: int, extra: str = "") -> Step:
    return raw(
        '{"type":"data","stream":"energy","timestamp":"2026-01-01T00:00:00.000Z",'
        f'"data":{{"n":{n}{extra}}},"id":"aa-{n}.0"}}'
    )


def in_pieces(n: int) -> Step:
    """A reading in two fragments, as a proxy may send it (RFC 6455 section 5.4)."""

    def step(playing: Playing) -> None:
        whole = f'{{"type":"data","stream":"energy","timestamp":"","data":{{"n":{n}}},"id":"aa-1"}}'
        playing.connection.send([whole[:30], whole[30:]])

    return step


def code(one: ErrorCode) -> Step:
    """Send a code as this service does: as an error, or as a notice."""
    return framed(messages.error(one))


def framed(frame: bytes) -> Step:
    """Send the message in a frame of this service."""
    content = first_frame(frame)
    assert content is not None
    return lambda playing: playing.say(content[0])


def old_error(one: ErrorCode) -> Step:
    """Send a code as services without notices do: as an error."""
    return lambda playing: playing.say(messages.error_body(one))


def close(one: Close) -> Step:
    return lambda playing: playing.connection.close(one.code, one.reason)


def closed_with(status: int) -> Step:
    return lambda playing: playing.connection.close(status)


def drop(playing: Playing) -> None:
    """End the connection without a close frame."""
    playing.connection.socket.close()


def auth(playing: Playing) -> None:
    """Wait for a fresh token."""
    assert playing.hear()["type"] == "auth"


def called(count: int) -> Step:
    """Wait until the client has called its function `count` times."""
    return lambda playing: eventually(lambda: playing.stage.calls >= count, f"{count} calls")


def reconnect(after_ms: int) -> Step:
    return lambda playing: playing.say({"type": "reconnect", "after_ms": after_ms})


def lagged(playing: Playing) -> None:
    playing.say(
        {
            "type": "lagged",
            "stream": "energy",
            "missed": 4,
            "from": START,
            "to": "aa-4.0",
            "reason": "LAGGED",
        }
    )


@dataclass(frozen=True)
class Refusal:
    """A refused handshake: by HTTP for clients that can read the answer, else by a message."""

    error: ErrorCode


Scene = tuple[Step, ...] | Refusal
GOOD: Final[Scene] = (subscribed, data(LAST), wait)

# The outcomes of a token function, call by call; the last one is repeated.
GIVES, FAILS, ENDS = "gives", "fails", "ends"
TEXT: Final = "header.payload.signature"


@dataclass(frozen=True)
class Row:
    """One behaviour. row: the line of docs/clients.md that promises it.

    token: a string, or the outcomes of a token function. scenes: one per connection; the last one
    is repeated.
    The expected result: refused: the code or close code that ends the iteration; None where it
    reaches the reading LAST. waits: the causes of `waiting`, None for words of the client's own.
    causes: those of `connecting`. calls: of the token function. resumes: the position in each
    subscription.
    """

    row: str
    name: str
    scenes: tuple[Scene, ...]
    token: str | tuple[str, ...] = TEXT
    refused: str | int | None = None
    waits: tuple[str | None, ...] = ()
    causes: tuple[str, ...] = ()
    calls: int | None = 0
    gaps: int = 0
    numbers: tuple[int, ...] = (LAST,)
    resumes: tuple[str | None, ...] | None = None

    @property
    def id(self) -> str:
        return self.name.replace(" ", "-")


def words(one: ErrorCode) -> str:
    return f"{one.code}: {one.message}"


def _row(row: str, name: str, *scenes: Scene, **more: Any) -> Row:
    return Row(row, name, scenes, **more)


def _rows() -> Iterator[Row]:
    go = "the connection opens"
    yield _row(go, "readings come", GOOD)
    yield _row(
        go, "divided messages", (subscribed, in_pieces(1), data(LAST), wait), numbers=(1, LAST)
    )
    odd = (
        *(
            data(1, ',"name":"kitchen \\ud83d"'),
            data(2, ',"w":1e400'),
            data(3, f',"w":{"9" * 5000}'),
        ),
        data(LAST),
    )
    yield _row(
        go, "records that few parsers take", (subscribed, *odd, wait), numbers=(1, 2, 3, LAST)
    )
    unknown = (raw('{"type":"news"}'), raw('{"type":"notice","code":"NEWS","message":"x"}'))
    nothing = (*unknown, raw("null"), raw("[1]"), raw('"x"'), code(errors.RATE_LIMITED))
    yield _row(
        "a message that it does not know, or an error that does not concern it",
        "unknown messages",
        (*nothing, subscribed, *nothing, data(LAST), wait),
    )
    yield _row(go, "a gap", (subscribed, lagged, data(LAST), wait), gaps=1)

    row = "`STREAM_UNAVAILABLE`"
    stream = errors.STREAM_UNAVAILABLE
    for name, say in (("notice", code(stream)), ("error of an old service", old_error(stream))):
        yield _row(row, f"stream unavailable, {name}", (say, *GOOD), causes=(words(stream),))

    row = "401 or 4401, and `token` is a text"
    refused, expired = errors.UNAUTHORIZED, errors.TOKEN_EXPIRED
    for one in (refused, expired):
        yield _row(
            row, f"text, {one.code}", Refusal(one), refused=one.code, waits=(None,), numbers=()
        )
    ends = (subscribed, code(expired), close(errors.TOKEN_EXPIRED_CLOSE))
    yield _row(
        row, "text that expires", ends, refused="TOKEN_EXPIRED", waits=(words(expired),), numbers=()
    )
    row = "401 or 4401, and `token` is a function"
    yield _row(
        row,
        "function, refused once",
        Refusal(refused),
        GOOD,
        token=(GIVES,),
        waits=(None,),
        calls=2,
    )
    yield _row(
        row,
        "function, refused twice",
        Refusal(refused),
        token=(GIVES,),
        refused="UNAUTHORIZED",
        waits=(None, None),
        calls=2,
        numbers=(),
    )
    yield _row(
        row,
        "function, expired again and again",
        ends,
        ends,
        ends,
        GOOD,
        token=(GIVES,),
        waits=(words(expired),) * 3,
        calls=4,
    )

    row = "503 or 4503"
    for one in (errors.KEYS_UNAVAILABLE, errors.SHUTTING_DOWN, errors.TOO_MANY_CONNECTIONS):
        yield _row(
            row,
            f"refused with {one.code}",
            Refusal(one),
            Refusal(one),
            Refusal(one),
            GOOD,
            waits=(None,) * 3,
        )
    one = errors.KEYS_UNAVAILABLE
    yield _row(
        row,
        "a key is rotated",
        Refusal(one),
        Refusal(one),
        GOOD,
        token=(GIVES,),
        waits=(None,) * 2,
        calls=3,
    )
    one = errors.HISTORY_UNAVAILABLE
    history = (unanswered, code(one), close(errors.UNAVAILABLE_CLOSE))
    first = (subscribed, data(1), close(errors.RESTART))
    yield _row(
        row,
        "history cannot be read yet",
        first,
        history,
        GOOD,
        numbers=(1, LAST),
        waits=("closed with 1012: service restart", words(one)),
        resumes=(None, "aa-1.0", "aa-1.0"),
    )

    row = "403, 404 or 4403; 1002, 1007 or 1009"
    one = errors.FORBIDDEN_ORIGIN
    yield _row(row, "origin", Refusal(one), refused="FORBIDDEN_ORIGIN", waits=(None,), numbers=())
    for status in sorted({c.code for c in errors.CLOSES if not c.retry} - {1000, 4401}):
        yield _row(
            row,
            f"closed with {status}",
            (subscribed, closed_with(status)),
            refused=status,
            waits=(f"closed with {status}",),
            numbers=(),
        )
    row = "`UNKNOWN_STREAM`, `FORBIDDEN_STREAM` or `BAD_MESSAGE`"
    for one in (errors.UNKNOWN_STREAM, errors.FORBIDDEN_STREAM, errors.BAD_MESSAGE):
        yield _row(
            row,
            one.code,
            (unanswered, code(one), wait),
            refused=one.code,
            waits=(words(one),),
            numbers=(),
        )

    row = "`reconnect`"
    yield _row(
        row,
        "reconnect",
        (subscribed, data(1), reconnect(300), close(errors.RESTART)),
        GOOD,
        waits=("closed with 1012: service restart",),
        numbers=(1, LAST),
        resumes=(None, "aa-1.0"),
    )
    row = "any other close code, or none"
    for status in sorted({c.code for c in errors.CLOSES if c.retry} | {1000, 1001, 1013, 4999}):
        yield _row(
            row,
            f"closed with {status}",
            (subscribed, data(1), closed_with(status)),
            GOOD,
            waits=(f"closed with {status}",),
            numbers=(1, LAST),
            resumes=(None, "aa-1.0"),
        )
    yield _row(
        row,
        "no close frame",
        (subscribed, drop),
        GOOD,
        waits=("closed with 1006",),
    )
    yield _row(
        row, "not JSON", (subscribed, raw("{"), wait), GOOD, waits=("a message that is not JSON",)
    )

    row = "`token` fails for a connection"
    yield _row(
        row, "function fails", GOOD, token=(FAILS, FAILS, GIVES), waits=(None, None), calls=3
    )
    row = "`token` throws `Refused`, or returns something that is not a JWT"
    yield _row(row, "function ends", GOOD, token=(ENDS,), refused="", numbers=(), calls=1)
    yield _row(row, "no JWT", GOOD, token="CANARY\r\nX-Evil: 1", refused="", numbers=())

    row = "`TOKEN_EXPIRING`, and `token` is a function"
    expiring = errors.TOKEN_EXPIRING
    renewed = (auth, framed(messages.authenticated(0)), data(LAST), wait)
    for name, say in (("notice", code(expiring)), ("error of an old service", old_error(expiring))):
        yield _row(row, f"expiring, {name}", (subscribed, say, *renewed), token=(GIVES,), calls=2)
    row = "`TOKEN_EXPIRING`, and `token` is a text"
    yield _row(row, "expiring text", (subscribed, code(expiring), data(LAST), wait))
    row = "`token` fails for a renewal"
    yield _row(
        row,
        "renewal fails at first",
        (subscribed, code(expiring), *renewed),
        token=(GIVES, FAILS, FAILS, GIVES),
        calls=4,
    )
    yield _row(
        row,
        "renewal fails for good",
        (subscribed, code(expiring), called(2), data(LAST), wait),
        token=(GIVES, ENDS),
        calls=2,
    )
    row = "`KEYS_UNAVAILABLE` after a renewal"
    yield _row(
        row,
        "renewal with a key that is not fetched yet",
        (subscribed, code(expiring), auth, code(errors.KEYS_UNAVAILABLE), *renewed),
        token=(GIVES,),
        calls=3,
    )
    row = "`BAD_MESSAGE` after a renewal"
    bad = errors.BAD_MESSAGE
    yield _row(
        row,
        "the fresh token allows other streams",
        (subscribed, data(1), code(expiring), auth, code(bad), wait),
        GOOD,
        token=(GIVES,),
        waits=(words(bad),),
        calls=3,
        numbers=(1, LAST),
        resumes=(None, "aa-1.0"),
    )


ROWS: Final = tuple(_rows())


@dataclass
class Stage:
    """Plays a row to one client, on its own port."""

    row: Row
    heard: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    calls: int = 0

    def __enter__(self) -> Self:
        self._scenes = list(self.row.scenes)
        self._outcomes = list(self.row.token) if isinstance(self.row.token, tuple) else []
        self._server: Server = serve(
            self._play,
            "127.0.0.1",
            0,
            process_request=self._decide,
            select_subprotocol=lambda _, offered: "energyws" if "energyws" in offered else None,
            close_timeout=0.2,
        )
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/ws/energy"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def mint(self) -> str:
        """The token function of the row."""
        self.calls += 1
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome == FAILS:
            raise ConnectionError("offline")
        if outcome == ENDS:
            raise PermissionError("signed out")
        return TEXT

    @property
    def resumes(self) -> tuple[str | None, ...]:
        """The position that each subscription resumes from."""
        subscriptions = [each for each in self.heard if each["type"] == "subscribe"]
        return tuple(each.get("resume", {}).get("energy") for each in subscriptions)

    def _decide(self, connection: ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        scene = self._scenes[0]
        if not isinstance(scene, Refusal) or "Authorization" not in request.headers:
            return None
        self._next()
        body = messages.error_body(scene.error)
        response = connection.respond(HTTPStatus(scene.error.status), "")
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(body))
        return Response(response.status_code, response.reason_phrase, response.headers, body)

    def _next(self) -> Scene:
        return self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]

    def _play(self, connection: ServerConnection) -> None:
        scene = self._next()
        playing = Playing(connection, self)
        if isinstance(scene, Refusal):
            assert scene.error.close is not None
            scene = (code(scene.error), close(scene.error.close))
        try:
            for step in scene:
                step(playing)
        except ConnectionClosed:
            pass
