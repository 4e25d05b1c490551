"""Subscriptions in the query string of a URL."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from energyws.errors import BAD_MESSAGE
from energyws.protocol.messages import BadClientMessage, Subscribe, subscribe

# Twice as many as MAX_STREAMS need; decoding thousands takes as long as ten handshakes.
MAX_QUERY_FIELDS: Final = 256
_DECIMAL: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_SPACE_FOR_PLUS: Final = re.compile(r"(?<=\d) (?=\d\d:\d\d\Z)", re.ASCII)


def parse_query(query: str) -> Subscribe | None:
    """The subscription in a query string: `subscribe=energy&resume=<id>`, `since=…` or `last=10`.

    With several streams (`subscribe=a,b`) each `resume` names one: `resume=a:<id>&resume=b:<id>`.
    None where the query has no subscription; raises BadClientMessage.
    """
    values = query_values(query)
    named = [name for value in values.get("subscribe", []) for name in value.split(",") if name]
    streams = list(dict.fromkeys(named))
    return query_subscribe(streams, values) if streams else None


def query_values(query: str) -> dict[str, list[str]]:
    """The values of each name in a query string; raises BadClientMessage for too many."""
    if query.count("&") >= MAX_QUERY_FIELDS:
        raise BadClientMessage(BAD_MESSAGE, f"a query may have {MAX_QUERY_FIELDS} fields")
    values: dict[str, list[str]] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(key, []).append(value)
    return values


def query_subscribe(streams: list[str], values: dict[str, list[str]]) -> Subscribe:
    """The subscription to these streams in a query; raises BadClientMessage."""
    message: dict[str, Any] = {"streams": streams}
    if "resume" in values:
        message["resume"] = dict(_query_resume(value, streams) for value in values["resume"])
    if "last" in values:
        text = values["last"][-1]
        # Bounded, because int() raises ValueError for thousands of digits.
        digits = text.isascii() and text.isdigit() and len(text) < 20
        message["last"] = int(text) if digits else text
    if "since" in values:
        # An unescaped plus is decoded as a space; before a time zone it can only be a plus.
        message["since"] = _SPACE_FOR_PLUS.sub("+", values["since"][-1])
    if "on_lag" in values:
        message["on_lag"] = values["on_lag"][-1]
    if "max_rate" in values:
        message["max_rate"] = _number(values["max_rate"][-1])
    if "key" in values:
        keys: dict[str, list[str]] = {}
        for value in values["key"]:
            stream, key = _query_key(value, streams)
            keys.setdefault(stream, []).append(key)
        message["keys"] = keys
    if "snapshot" in values:
        text = values["snapshot"][-1]
        message["snapshot"] = {"1": True, "true": True, "0": False, "false": False}.get(text, text)
    return subscribe(message)


def _number(text: str) -> float | str:
    # Neither `nan` nor `1_0`, which float() takes.
    return float(text) if _DECIMAL.fullmatch(text) else text


def _query_resume(value: str, streams: list[str]) -> tuple[str, str]:
    stream, colon, position = value.rpartition(":")
    if colon:
        return stream, position
    if len(streams) == 1:
        return streams[0], value
    raise BadClientMessage(BAD_MESSAGE, "`resume` must be `stream:id` where streams are several")


def _query_key(value: str, streams: list[str]) -> tuple[str, str]:
    # A key may have a colon, too, so that one stream needs no name.
    if len(streams) == 1:
        return streams[0], value
    stream, colon, key = value.partition(":")
    if colon:
        return stream, key
    raise BadClientMessage(BAD_MESSAGE, "`key` must be `stream:key` where streams are several")
