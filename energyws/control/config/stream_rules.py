"""The rules of energyws.control.config.rules for streams: their names, topics and keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from energyws.control.config.problems import KeyPath, Problems, dotted
from energyws.control.config.schema import is_true, section
from energyws.settings import Snapshot, Stream
from energyws.stream.record_key import KeyRule

_STREAM: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_SHORT: Final[KeyPath] = ("kafka", "topic")
_LONG: Final[KeyPath] = ("streams", "energy", "topic")


def check_streams(kafka: dict[str, Any], streams: dict[str, Any], problems: Problems) -> None:
    """Add what is wrong with the streams of a raw tree."""
    explained = any(map(problems.explain_absence, (_SHORT, ("streams",))))
    if kafka.get("topic") is None and not streams and not explained:
        problems.add(_SHORT, "missing: set it to the topic to read, or set streams")
    topics = kafka.get("topic"), section(streams, "energy").get("topic")
    sound = not any(map(problems.wrong, (_SHORT, _LONG)))
    if sound and None not in topics and topics[0] != topics[1]:
        problems.add(
            _SHORT,
            f"found {problems.found(_SHORT, topics[0])}, but it is short for "
            f"streams.energy.topic, which has {problems.found(_LONG, topics[1])}: remove one",
        )
    for name in streams:
        if not _STREAM.fullmatch(name):
            text = "invalid name of a stream: use 1 to 64 of a-z, 0-9, _, . and -"
            problems.add(("streams", name), text)
        _check_keys(name, section(streams, name), problems)
    _check_topics(kafka.get("topic"), streams, problems)


def _check_topics(short: object, streams: dict[str, Any], problems: Problems) -> None:
    # librdkafka reads a partition once, so the consumer would fail at the second stream.
    first_of: dict[object, KeyPath] = {}
    if "energy" not in streams and isinstance(short, str):
        first_of[short] = _SHORT
    for name in streams:
        path, topic = ("streams", name, "topic"), section(streams, name).get("topic")
        if not isinstance(topic, str) or problems.wrong(path):
            continue
        first = first_of.setdefault(topic, path)
        if first != path:
            text = (
                f"same as {dotted(first)}: list each topic once (one stream can give some clients "
                "all records, and others those of their keys: docs/keyed.md)"
            )
            problems.add(path, text)


def _check_keys(name: str, stream: dict[str, Any], problems: Problems) -> None:
    key, path = stream.get("key"), ("streams", name, "key")
    if isinstance(key, str) and not problems.wrong(path):
        try:
            KeyRule(key)
        except ValueError as error:
            problems.add(path, f"found {problems.found(path, key)}, which {error}")
    snapshot = section(stream, "snapshot")
    if is_true(snapshot.get("enabled")) and key is None and not problems.explain_absence(path):
        text = f"needs streams.{name}.key too: where the key of a record is"
        problems.add(("streams", name, "snapshot", "enabled"), text)
    if stream.get("access") == "keyed" and key is None and not problems.explain_absence(path):
        text = f"keyed needs streams.{name}.key too: where the key of a record is"
        problems.add(("streams", name, "access"), text)


def stream_warnings(streams: Mapping[str, Stream]) -> Iterator[str]:
    """A line for each valid setting of a stream that is probably not intended."""
    for name, stream in streams.items():
        key, snapshot = stream.key or "", stream.snapshot
        if key != key.rstrip() or key.startswith("header: "):
            yield (
                f"streams.{name}.key: has white space before or after the name, which is then "
                "part of the name"
            )
        if key.startswith("/") and key.endswith("/"):
            yield (
                f"streams.{name}.key: ends with /, and so names a field whose name is empty: "
                "remove the /"
            )
        if not snapshot.enabled and snapshot != Snapshot():
            yield (
                f"streams.{name}.snapshot: not used without streams.{name}.snapshot.enabled: "
                "set it to true"
            )
