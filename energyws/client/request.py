"""What a client asks for, and what the answer must confirm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Stands for every key that the token allows.
ALL: Final = "*"
# Of every stream, or by stream.
Keys = str | Iterable[str] | Mapping[str, str | Iterable[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """keys: those of each stream; a stream that is not in it is asked for as a whole.

    The rest: see Client.
    """

    streams: tuple[str, ...]
    keys: dict[str, list[str]]
    since: str | None
    last: int | None
    snapshot: bool
    max_rate: float | None
    on_lag: str

    @property
    def is_bounded(self) -> bool:
        """Whether it asks for all readings since a time."""
        return self.since is not None

    @property
    def tells_removals(self) -> bool:
        """Whether the application knows that records have keys, and so that keys may go."""
        return bool(self.keys) or self.snapshot

    def message(self, positions: Mapping[str, str]) -> dict[str, object]:
        """The `subscribe` message of a client that has come this far."""
        message: dict[str, object] = {
            "type": "subscribe",
            "streams": self.streams,
            "on_lag": self.on_lag,
        }
        if self.keys:
            message["keys"] = self.keys
        if self.snapshot:
            message["snapshot"] = True
        if self.max_rate is not None:
            message["max_rate"] = self.max_rate
        if positions:
            message["resume"] = positions
        elif self.since is not None:
            message["since"] = self.since
        elif self.last is not None:
            message["last"] = self.last
        return message

    def unconfirmed(self, subscribed: Mapping[str, Any]) -> list[str]:
        """The streams of a `subscribed` message whose keys it does not confirm.

        A service that knows no keys ignores them, and would send every record. Whoever asks for
        all that it may have gets no number where that is everything.
        """
        confirmed = subscribed.get("keys") or {}
        asked = {stream for stream, keys in self.keys.items() if ALL not in keys}
        return [each for each in subscribed["streams"] if each in asked and each not in confirmed]


def by_stream(keys: Keys | None, streams: Iterable[str]) -> dict[str, list[str]]:
    """The keys of each stream."""
    if keys is None:
        return {}
    if isinstance(keys, Mapping):
        return {stream: _listed(each) for stream, each in keys.items()}
    listed = _listed(keys)
    return dict.fromkeys(streams, listed)


def _listed(keys: str | Iterable[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)
