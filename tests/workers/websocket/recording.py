"""A connection, and the parts of a worker around it, that record calls from a listener."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import orjson
from picows import WSMsgType

from energyws.auth.claims import TokenRefused
from energyws.auth.verifier import Principal
from energyws.process.board import Board
from energyws.process.counters import CLOSED
from energyws.protocol import messages
from energyws.protocol.http.client_address import TrustedProxies
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.protocol.position import Position
from energyws.settings import Limits, Server, Stream
from tests.clients import first_frame
from tests.principals import principal
from workers.websocket.accept.arrivals import Arrivals
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.clients.context import Context
from workers.websocket.clients.session import Session
from workers.websocket.connection.upgrade import switching
from workers.websocket.shares import Shares


class Journal(list[tuple[Any, ...]]):
    """Calls of several objects in order: (name, *arguments)."""

    def messages(self) -> list[dict[str, Any]]:
        """The messages that were written."""
        data = b"".join(entry[1] for entry in self if entry[0] == "write")
        if data.startswith(b"HTTP/"):
            data = data.partition(b"\r\n\r\n")[2]
        found = []
        while (frame := first_frame(data)) is not None:
            opcode, (payload, data) = data[0] & 0xF, frame
            if opcode == 1:
                found.append(orjson.loads(payload))
        return found

    def names(self) -> list[str]:
        return [entry[0] for entry in self]

    def close_codes(self) -> list[int]:
        return [entry[1] for entry in self if entry[0] == "close frame"]


class RecordingTransport:
    """picows' transport, the aiofastnet transport under it, and its Framing, in one."""

    is_secure = False

    def __init__(self, journal: Journal, extension: str | None = None) -> None:
        self.journal = journal
        self.underlying_transport = self
        self.request = SimpleNamespace(headers={}, method="", path="", version="")
        self.response = switching(None, extension)
        self.is_close_frame_sent = False
        # The session to pause in the middle of the next write.
        self.fills_up: Session | None = None
        # The bytes that its socket has not taken.
        self.held = 0
        self.connection = None
        self.closes = False

    def write(self, data: bytes) -> None:
        self.journal.append(("write", data))
        if self.fills_up is not None:
            self.fills_up, listener = None, self.fills_up
            listener.pause_writing()

    write_nocheck = write

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return self.closes

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.journal.append(("limits", high, low))

    def pause_reading(self) -> None:
        self.journal.append(("pause reading",))

    def resume_reading(self) -> None:
        self.journal.append(("resume reading",))

    def send_close(self, code: int, reason: str) -> None:
        self.is_close_frame_sent = True
        self.journal.append(("close frame", code, reason))

    def close(self) -> None:
        self.journal.append(("end",))

    end = close

    def get_protocol(self) -> RecordingTransport:
        return self

    def drop(self) -> None:
        self.journal.append(("drop",))

    def fail(self) -> None:
        self.journal.append(("fail",))

    def disconnect(self, graceful: bool) -> None:
        self.journal.append(("abort",))


def client_frame(
    kind: WSMsgType, payload: bytes = b"", *, final: bool = True, continues: bool = False
) -> Any:
    """A frame, as picows gives it to a listener."""
    code = int.from_bytes(payload[:2], "big") if kind is WSMsgType.CLOSE and payload else 1005
    return SimpleNamespace(
        msg_type=kind,
        fin=int(final),
        rsv1=0,
        rsv2=int(continues),
        payload_size=len(payload),
        get_payload_as_bytes=lambda: payload,
        get_close_code=lambda: SimpleNamespace(value=code),
    )


class RecordingHub:
    """A hub with the stream `energy`. fails: subscribe raises."""

    streams = frozenset({"energy"})

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.found = True
        self.fails = False
        self.at: Position | None = None

    def subscribe(self, client: Session, request: Subscribe) -> bool:
        self.journal.append(("hub.subscribe", request.streams))
        if self.fails:
            raise RuntimeError("broken on purpose")
        return self.found

    def head(self, stream: str) -> Position | None:
        return self.at

    def unsubscribe(self, client: Session, streams: tuple[str, ...]) -> None:
        self.journal.append(("hub.unsubscribe", streams))

    def leave(self, client: Session) -> None:
        self.journal.append(("hub.leave",))

    def dismiss(self, client: Session) -> None:
        self._tell(client)

    def tell_positions(self, client: Session) -> None:
        self._tell(client)

    def _tell(self, client: Session) -> None:
        if self.at is not None:
            client.write(messages.position("energy", str(self.at)))

    def backlogged(self, client: Session) -> None:
        self.journal.append(("hub.backlogged",))

    def pause_writing(self, client: Session) -> None:
        self.journal.append(("hub.pause",))

    def resume_writing(self, client: Session) -> None:
        self.journal.append(("hub.resume",))


class RecordingRegistry:
    """A connection registry."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def join(self, connection: object, socket: object) -> None:
        self.journal.append(("registry.join",))

    def expires(self, connection: object) -> None:
        self.journal.append(("registry.expires",))

    def closing(self, connection: object) -> None:
        self.journal.append(("registry.closing",))

    def lost(self, connection: object) -> None:
        self.journal.append(("registry.lost",))

    def leave(self, connection: object) -> None:
        self.journal.append(("registry.leave",))


class ScriptedTokens:
    """Accepts the tokens in `good`, by their text, and refuses all others."""

    def __init__(self) -> None:
        self.good: dict[str, Principal] = {}

    def check(self, token: str) -> Principal:
        if token not in self.good:
            raise TokenRefused("signature")
        return self.good[token]


def arrivals(board: Board, settings: Server, **limits: Any) -> Arrivals:
    """The arrivals of a worker that has row 0."""
    shares = Shares(board.usage(0), board.row(0), Limits(**limits))
    return Arrivals(shares, board, settings, TrustedProxies(settings.trusted_proxies))


class Worker:
    """The Context of a worker, made of recording parts."""

    def __init__(
        self,
        limits: Limits | None = None,
        streams: Mapping[str, Stream] | None = None,
        **server: Any,
    ) -> None:
        self.journal = Journal()
        self.board = Board.create()
        self.row = self.board.row(0)
        self.hub = RecordingHub(self.journal)
        self.tokens = ScriptedTokens()
        registry: Any = RecordingRegistry(self.journal)
        hub: Any = self.hub
        tokens: Any = self.tokens
        self.shares = Shares(self.board.usage(0), self.row, limits or Limits())
        self.context = Context(
            Server(**server),
            hub,
            registry,
            tokens,
            self.row,
            self.shares,
            KeyAccess(streams or {"energy": Stream(topic="readings")}, self.shares, self.row),
        )

    def session(
        self,
        first: Subscribe | BadClientMessage | None = None,
        *,
        streams: frozenset[str] | None = None,
        extension: str | None = None,
    ) -> tuple[Session, RecordingTransport]:
        """A session that is not connected yet, and its transport."""
        owner = principal(streams=streams)
        session = Session(self.context, owner, "127.0.0.1", first, extension)
        return session, RecordingTransport(self.journal, extension)

    def connected(self, **arguments: Any) -> tuple[Session, RecordingTransport]:
        """A session, and its transport; the journal begins after its 101."""
        session, transport = self.session(**arguments)
        session.on_ws_connected(transport)  # type: ignore[arg-type]
        self.journal.clear()
        return session, transport

    def closed(self) -> dict[tuple[str, ...], int]:
        """The counts of closed connections, by side and code."""
        return {labels: n for labels, n in CLOSED.read(self.row.columns()).items() if n}
