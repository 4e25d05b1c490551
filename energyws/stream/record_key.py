"""Where a record's key is, by the `key` of its stream in the configuration.

    record          the key that the producer gave the record
    header:NAME     the record's last header of that name
    /a/b            the string or integer there in the value: a JSON pointer (RFC 6901)

Keys are UTF-8. What cannot be a key (energyws.protocol.keys) is none; so is everything in a value
that its parser cannot represent (energyws.stream.record).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from energyws.protocol.keys import escaped
from energyws.settings import Stream

_HEADER: Final = "header:"
_LONE_TILDE: Final = re.compile(r"~(?![01])")
# RFC 6901 section 4.
_INDEX: Final = re.compile(r"0|[1-9][0-9]*")


def key_rules(streams: Mapping[str, Stream]) -> dict[str, str | None]:
    """By the name of each stream, its `key`."""
    return {name: stream.key for name, stream in streams.items()}


class KafkaMessage(Protocol):
    """What is needed of confluent_kafka.Message."""

    def key(self) -> Any: ...

    def headers(self) -> Any: ...


class KeyRule:
    """Finds the key of each record. Raises ValueError for a text that is not as above.

    outside: whether the key stands beside the value, so that a record without a value has one, too.
    """

    __slots__ = ("_header", "_pointer", "outside", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._header: str | None = None
        self._pointer: tuple[str, ...] = ()
        self.outside: Final = not text.startswith("/")
        if text.startswith("/"):
            self._pointer = _tokens(text)
        elif text.startswith(_HEADER):
            self._header = text.removeprefix(_HEADER)
            if not self._header:
                raise ValueError("names no header: use header:NAME")
        elif text != "record":
            raise ValueError(
                "is no place of a key: use record, header:NAME, or a JSON pointer such as /a/b"
            )

    def raw(self, message: KafkaMessage) -> bytes | None:
        """The key that stands outside the value of a message, as its bytes there."""
        if self._header is None:
            key: bytes | None = message.key()
            return key
        try:
            headers: list[tuple[str, bytes | None]] = message.headers() or []
        except UnicodeDecodeError:
            # The client makes text of all names at once.
            return None
        return next((value for name, value in reversed(headers) if name == self._header), None)

    def key(self, raw: bytes | None, value: dict[str, Any] | None) -> bytes | None:
        """The key of a record, escaped; None without one.

        raw: what `raw` has found; value: the object in the record's value, if there is one.
        """
        if self._pointer:
            return _in(value, self._pointer)
        if raw is None:
            return None
        try:
            return escaped(raw.decode())
        except ValueError:
            return None


def _tokens(pointer: str) -> tuple[str, ...]:
    if _LONE_TILDE.search(pointer):
        raise ValueError("is no JSON pointer: write ~0 for ~, and ~1 for / in a name")
    return tuple(
        token.replace("~1", "/").replace("~0", "~")
        for token in pointer.removeprefix("/").split("/")
    )


def _in(value: Any, pointer: tuple[str, ...]) -> bytes | None:
    for token in pointer:
        if type(value) is dict:
            value = value.get(token)
        elif type(value) is list and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    if type(value) is int:
        return b"%d" % value
    if type(value) is not str:
        return None
    try:
        return escaped(value)
    except ValueError:
        return None
