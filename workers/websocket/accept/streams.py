"""The HTTP paths of a stream: `/sse/<stream>`.

Pages of other origins may read them (CORS, WHATWG Fetch section 3.2) where they may connect.
"""

from __future__ import annotations

from typing import Final

from energyws.auth.verifier import Principal
from energyws.errors import BAD_REQUEST, FORBIDDEN_STREAM, NOT_FOUND
from energyws.protocol import messages
from energyws.protocol.http_request import Request
from energyws.protocol.http_response import EVENT_STREAM, Response, event_refusal, refusal
from energyws.protocol.messages import BadClientMessage, Subscribe
from workers.websocket.accept.admission import Refusal
from workers.websocket.clients.context import Context
from workers.websocket.clients.event_stream import EventStream

METHODS: Final = ("GET", "HEAD", "OPTIONS")
SSE: Final = "sse"
KINDS: Final = (SSE,)

_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Authorization, Last-Event-ID, If-None-Match",
    "Access-Control-Max-Age": "600",
}


def split(path: str) -> tuple[str, str] | None:
    """The kind and the stream in a path; None for another path."""
    kind, slash, stream = path[1:].partition("/")
    return (kind, stream) if slash and kind in KINDS else None


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


def refused(request: Request, refused_: Refusal, headers: dict[str, str]) -> Response:
    """The answer to a request that is refused. headers: those of `cors`."""
    path = split(request.path)
    temporary = refused_.error.status in (429, 503)
    if temporary and path is not None and path[0] == SSE and takes_events(request):
        return event_refusal(refused_.error, refused_.detail, headers, _last_event_id(request))
    return refusal(refused_.error, refused_.detail, headers)


def takes_events(request: Request) -> bool:
    """Whether EventSource may have made this request: it alone cannot see a status."""
    types = ",".join(request.headers.getall("Accept", []))
    return "text/event-stream" in types.lower()


def answer(
    request: Request, context: Context, principal: Principal, peer: str, headers: dict[str, str]
) -> Response | EventStream:
    """The answer to an admitted GET or HEAD; raises Refusal. headers: those of `cors`."""
    path = split(request.path)
    assert path is not None
    _, stream = path
    if stream not in context.hub.streams:
        known = ", ".join(sorted(context.hub.streams))
        raise Refusal(NOT_FOUND, f"no stream {stream[:64]!r}; known are {known}")
    if not principal.may_read(stream):
        raise Refusal(FORBIDDEN_STREAM, repr(stream), subject=principal.subject)
    return _events(request, stream, context, principal, peer, headers)


def _events(
    request: Request,
    stream: str,
    context: Context,
    principal: Principal,
    peer: str,
    headers: dict[str, str],
) -> Response | EventStream:
    wanted = _subscription(request, stream)
    if request.method == "HEAD":
        return Response(200, None, {**EVENT_STREAM, **headers}, ends=True)
    return EventStream(
        context,
        principal,
        peer,
        wanted,
        headers,
        as_events=takes_events(request),
        last_event_id=_last_event_id(request),
    )


def _last_event_id(request: Request) -> str:
    return str(request.headers.get("Last-Event-ID", ""))


def _subscription(request: Request, stream: str) -> Subscribe:
    try:
        return messages.parse_stream_query(stream, request.query, _last_event_id(request))
    except BadClientMessage as bad:
        raise Refusal(BAD_REQUEST, bad.detail) from None
