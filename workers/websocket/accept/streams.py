"""The HTTP paths of a stream: `/sse/<stream>`, `/last/<stream>` and `/history/<stream>`.

Pages of other origins may read them (CORS, WHATWG Fetch section 3.2) where they may connect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from energyws.auth.verifier import Principal
from energyws.errors import (
    BAD_MESSAGE,
    BAD_REQUEST,
    FORBIDDEN_STREAM,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TOO_MANY_REQUESTS,
)
from energyws.protocol.http.request import Request
from energyws.protocol.http.response import (
    ALLOWED,
    EVENT_STREAM,
    Response,
    event_refusal,
    matches,
    refusal,
)
from energyws.protocol.http.stream_queries import parse_history, parse_last, parse_sse
from energyws.protocol.messages import BadClientMessage, Subscribe
from workers.websocket.accept.admission import Refusal
from workers.websocket.clients import history, last
from workers.websocket.clients.answers import Asked, is_full
from workers.websocket.clients.context import Context
from workers.websocket.clients.event_stream import EventStream
from workers.websocket.connection.answer import Answer
from workers.websocket.snapshots.client import has_scan

# They say nothing about the client, and any program can cause them.
FAULTS_OF_REQUESTS: Final = (BAD_REQUEST, NOT_FOUND, TOO_MANY_REQUESTS)
_TEMPORARY: Final = (429, 503)
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Authorization, Last-Event-ID, If-None-Match",
    "Access-Control-Max-Age": "600",
}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A GET or HEAD whose token is good. headers: those of `cors`; marks: as of Shares."""

    request: Request
    stream: str
    context: Context
    principal: Principal
    peer: str
    headers: dict[str, str]
    marks: int

    def filtered(self, subscribe: Subscribe) -> Subscribe:
        """With the keys that the client gets; raises BadClientMessage."""
        return self.context.keys.with_filters(subscribe, self.principal)

    def asked(self, subscribe: Subscribe) -> Asked:
        """See `filtered`."""
        request = self.request
        return Asked(
            self.stream,
            self.principal,
            self.filtered(subscribe),
            self.headers,
            head_only=request.method == "HEAD",
            chunked=request.minor > 0,
            marks=self.marks,
        )


def is_path(path: str) -> bool:
    """Whether it is one of these paths, of any stream."""
    return _split(path)[0] in _KINDS


def cors(request: Request, allowed: tuple[str, ...]) -> dict[str, str]:
    """The headers that let the page that made a request read the response."""
    if not allowed:
        return {"Access-Control-Allow-Origin": "*"}
    origin = request.headers.get("Origin")
    # A cache must not hand one origin's response to another.
    headers = {"Vary": "Origin"}
    if origin is not None and origin in allowed:
        headers["Access-Control-Allow-Origin"] = origin
    return headers


def preflight(headers: dict[str, str]) -> Response:
    """The answer to OPTIONS. headers: those of `cors`."""
    return Response(204, None, headers | _PREFLIGHT)


def refused(request: Request, cause: Refusal, headers: dict[str, str]) -> Response:
    """The answer to a request that is refused. headers: those of `cors`."""
    events = _split(request.path)[0] == "sse" and _takes_events(request)
    if events and cause.error.status in _TEMPORARY:
        return event_refusal(cause.error, cause.detail, headers, _last_event_id(request))
    return refusal(cause.error, cause.detail, headers)


def not_allowed(headers: dict[str, str]) -> Response:
    """The answer to other methods. headers: those of `cors`."""
    return refusal(METHOD_NOT_ALLOWED, "", {"Allow": ", ".join((*ALLOWED, "OPTIONS")), **headers})


def answer(
    request: Request,
    context: Context,
    principal: Principal,
    peer: str,
    headers: dict[str, str],
    marks: int,
) -> Response | Answer | EventStream:
    """The answer to an admitted GET or HEAD; raises Refusal. See Admitted."""
    kind, stream = _split(request.path)
    if stream not in context.hub.streams:
        known = ", ".join(sorted(context.hub.streams))
        raise Refusal(NOT_FOUND, f"no stream {stream[:64]!r}; known are {known}")
    if not principal.may_read(stream):
        raise Refusal(FORBIDDEN_STREAM, repr(stream), subject=principal.subject)
    if (limit := context.shares.may_send(principal.subject)) is not None:
        raise Refusal(TOO_MANY_REQUESTS, f"limits.{limit}", limit, subject=principal.subject)
    try:
        return _KINDS[kind](Admitted(request, stream, context, principal, peer, headers, marks))
    except BadClientMessage as bad:
        if bad.error is BAD_MESSAGE:
            raise Refusal(BAD_REQUEST, bad.detail) from None
        raise Refusal(bad.error, bad.detail, subject=principal.subject) from None


def _split(path: str) -> tuple[str, str]:
    """The kind and the stream in a path."""
    kind, _, stream = path.removeprefix("/").partition("/")
    return kind, stream


def _takes_events(request: Request) -> bool:
    """Whether EventSource may have made this request: it alone cannot see a status."""
    types = ",".join(request.headers.getall("Accept", []))
    return "text/event-stream" in types.lower()


def _last_event_id(request: Request) -> str:
    return str(request.headers.get("Last-Event-ID", ""))


def _sse(admitted: Admitted) -> Response | EventStream:
    request = admitted.request
    last_event_id = _last_event_id(request)
    subscribe = admitted.filtered(parse_sse(admitted.stream, request.query, last_event_id))
    if request.method == "HEAD":
        return Response(200, None, {**EVENT_STREAM, **admitted.headers}, ends=True)
    return EventStream(
        admitted.context,
        admitted.principal,
        admitted.peer,
        subscribe,
        admitted.headers,
        as_events=_takes_events(request),
        last_event_id=last_event_id,
        marks=admitted.marks,
    )


def _last(admitted: Admitted) -> Response | Answer:
    subscribe, count = parse_last(admitted.stream, admitted.request.query)
    asked = admitted.asked(subscribe)
    if subscribe.snapshot:
        return _last_snapshot(admitted, asked)
    head = admitted.context.hub.head(admitted.stream)
    known = admitted.request.headers.get("If-None-Match", "")
    tagged = head is not None and not asked.subscribe.filters
    if tagged and matches(known, last.tag(str(head))):
        return last.not_modified(str(head), admitted.headers)
    return last.Last(admitted.context, asked, count)


def _last_snapshot(admitted: Admitted, asked: Asked) -> Response | Answer:
    if asked.head_only:
        return Response(200, None, {**last.SNAPSHOT_HEADERS, **admitted.headers})
    if has_scan(asked.subscribe.filters.get(admitted.stream)):
        _refuse_if_full(admitted)
    return last.LastSnapshot(admitted.context, asked)


def _history(admitted: Admitted) -> Response | Answer:
    subscribe, limit = parse_history(admitted.stream, admitted.request.query)
    asked = admitted.asked(subscribe)
    if admitted.request.method == "HEAD":
        return Response(200, None, {**history.HEADERS, **admitted.headers})
    _refuse_if_full(admitted)
    return history.History(admitted.context, asked, limit)


def _refuse_if_full(admitted: Admitted) -> None:
    subject = admitted.principal.subject
    if is_full(admitted.context.reading, subject):
        raise Refusal(TOO_MANY_REQUESTS, subject=subject)


_KINDS: Final[dict[str, Callable[[Admitted], Response | Answer | EventStream]]] = {
    "sse": _sse,
    "last": _last,
    "history": _history,
}
