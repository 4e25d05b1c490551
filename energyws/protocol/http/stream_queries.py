"""The queries of the HTTP paths that name one stream: `/sse/…`, `/history/…` and `/last/…`.

All of them raise BadClientMessage for a value that cannot be used, and ignore other names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from energyws.errors import BAD_MESSAGE
from energyws.protocol.http.queries import query_subscribe, query_values
from energyws.protocol.messages import BadClientMessage, Subscribe

MAX_LAST: Final = 100
MAX_LIMIT: Final = 10_000
_DEFAULT_LIMIT: Final = 1_000
_PLACES: Final = ("after", "since", "last")


def parse_sse(stream: str, query: str, last_event_id: str) -> Subscribe:
    """The subscription of an event stream.

    last_event_id: a position, or empty. It counts before one in the query: that is as old as the
    first request, and EventSource repeats it each time it reconnects.
    """
    values = query_values(query)
    if not last_event_id:
        return query_subscribe([stream], values)
    kept = _only(values, "on_lag", "key", "snapshot", "max_rate")
    return _after(query_subscribe([stream], kept), last_event_id)


def parse_history(stream: str, query: str) -> tuple[Subscribe, int]:
    """Where a history begins, and how many records it may have."""
    values = query_values(query)
    given = [name for name in _PLACES if name in values]
    if len(given) != 1:
        raise BadClientMessage(BAD_MESSAGE, "give one of `after`, `since` and `last`")
    limit = _count("limit", values, _DEFAULT_LIMIT, MAX_LIMIT)
    subscribe = query_subscribe([stream], _only(values, *given, "key"))
    return (_after(subscribe, values["after"][-1]) if given == ["after"] else subscribe), limit


def parse_last(stream: str, query: str) -> tuple[Subscribe, int]:
    """The newest records, and how many of them; or with `snapshot` that of each key."""
    values = query_values(query)
    count = _count("last", values, 1, MAX_LAST)
    subscribe = query_subscribe([stream], _only(values, "key", "snapshot"))
    if not subscribe.snapshot:
        return replace(subscribe, last=count), count
    if "last" in values:
        raise BadClientMessage(BAD_MESSAGE, "`snapshot` and `last` exclude each other")
    return subscribe, count


def _only(values: dict[str, list[str]], *names: str) -> dict[str, list[str]]:
    return {name: values[name] for name in names if name in values}


def _after(subscribe: Subscribe, position: str) -> Subscribe:
    """The same from a position on, whose text need not be one: `subscribed` will say so."""
    return replace(subscribe, resume=dict.fromkeys(subscribe.streams, position))


def _count(name: str, values: dict[str, list[str]], default: int, most: int) -> int:
    if name not in values:
        return default
    text = values[name][-1]
    # Bounded, because int() raises ValueError for thousands of digits.
    if text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most:
        return int(text)
    raise BadClientMessage(BAD_MESSAGE, f"`{name}` must be an integer from 1 to {most}")
