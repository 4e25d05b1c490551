"""Which keys of a stream a client gets, and whether as a snapshot first: every way in asks here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from energyws.auth.key_rights import BadKey, ForbiddenKey, key_filter
from energyws.auth.verifier import Principal
from energyws.errors import (
    BAD_MESSAGE,
    FORBIDDEN_KEY,
    NOT_KEYED,
    SNAPSHOT_UNAVAILABLE,
    TOO_MANY_KEYS,
)
from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.settings import Stream
from workers.websocket.shares import Shares

_log = Log("tokens")
_LIMIT: Final = "keys_per_subscription"


class KeyAccess:
    """Of a worker. streams: those of the settings."""

    def __init__(self, streams: Mapping[str, Stream], shares: Shares, row: Row) -> None:
        self._streams = streams
        self._shares = shares
        self._row = row
        # The streams of which the log says that they give more than a token names.
        self._doubted: set[str] = set()

    def with_filters(self, request: Subscribe, principal: Principal) -> Subscribe:
        """The request with the filters that its client gets.

        Raises BadClientMessage, whose details name streams, and never keys.
        """
        filters: dict[str, KeyFilter] = {}
        for name in request.streams:
            only = self._filter(name, request.keys.get(name), principal)
            if only is not None:
                filters[name] = only
            if request.snapshot and not self._streams[name].snapshot.enabled:
                raise BadClientMessage(SNAPSHOT_UNAVAILABLE, repr(name))
        return replace(request, keys={}, filters=filters) if filters or request.keys else request

    def _filter(
        self, name: str, wanted: tuple[str, ...] | None, principal: Principal
    ) -> KeyFilter | None:
        stream = self._streams[name]
        if stream.key is None:
            if wanted is not None:
                raise BadClientMessage(NOT_KEYED, repr(name))
            return None
        limit = self._shares.limits.keys_per_subscription
        if wanted is not None and limit is not None and len(wanted) > limit:
            self._shares.met(_LIMIT)
            detail = f"{len(wanted)} of {name!r}; limits.{_LIMIT} is {limit}"
            raise BadClientMessage(TOO_MANY_KEYS, detail)
        allowed = principal.keys_of(name)
        try:
            only = key_filter(stream, allowed, wanted)
        except ForbiddenKey:
            self._row.add(Field.FORBIDDEN_KEYS)
            detail = f"of stream {name!r}" if wanted else f"it names none of stream {name!r}"
            raise BadClientMessage(FORBIDDEN_KEY, detail) from None
        except BadKey as bad:
            raise BadClientMessage(BAD_MESSAGE, f"`keys`: {bad}") from None
        if only is None and allowed is not None and not allowed.everything:
            self._doubt(name)
        return only

    def _doubt(self, name: str) -> None:
        if name not in self._doubted:
            self._doubted.add(name)
            _log.warning(
                "a token names keys, but its client gets all of the stream",
                stream=name,
                hint="set access: keyed for this stream, or every client may read all keys",
            )
