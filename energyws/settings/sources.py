"""Where records come from: topics, their keys and schemas, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from energyws.settings.types import (
    KIB,
    MAX_RECORD_BYTES,
    MIB,
    STRICT,
    Count,
    PositiveSeconds,
    Seconds,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """The source of the records. `options` are passed to librdkafka (TLS, SASL, tuning)."""

    __pydantic_config__ = STRICT

    brokers: Text
    topic: Text | None = None
    group_id: Text = "energy-ws"
    auto_offset_reset: Literal["latest", "earliest"] = "latest"
    max_record_bytes: Annotated[int, Ge(1 * KIB), Le(MAX_RECORD_BYTES)] = 1 * MIB
    commit_interval_seconds: PositiveSeconds = 5.0
    metadata_refresh_seconds: PositiveSeconds = 10.0
    options: dict[str, str | int | float | bool] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The newest record of each key, in the consumer's memory, for clients that ask for it.

    max_keys, max_bytes: its bounds; beyond them, the keys that were unchanged for longest go.
    lookback_seconds: how old the records are that are read for it at the start; None: any age, as
    with a compacted topic. wait_seconds: how long a client waits for that.
    """

    __pydantic_config__ = STRICT

    enabled: bool = False
    max_keys: Count = 100_000
    max_bytes: Annotated[int, Ge(64 * KIB)] = 128 * MIB
    lookback_seconds: PositiveSeconds | None = 3600.0
    wait_seconds: Seconds = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream that clients may subscribe to: all partitions of one topic.

    key: where a record's key is: `record` (Kafka's own), `header:NAME`, or a JSON pointer (RFC
    6901); None: there is none. access: `keyed`: a client gets only keys of its token's keys_claim.
    """

    __pydantic_config__ = STRICT

    topic: Text
    format: Literal["json", "avro", "json_schema", "protobuf"] = "json"
    key: Text | None = None
    access: Literal["open", "keyed"] = "open"
    snapshot: Snapshot = field(default_factory=Snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRegistry:
    """Where schemas are. password_file: wins over password. ca: PEM; None: the system's."""

    __pydantic_config__ = STRICT

    url: Text | None = None
    username: Text | None = None
    password: Text | None = field(default=None, repr=False)
    password_file: Text | None = None
    ca: Text | None = None
    timeout_seconds: PositiveSeconds = 5.0
    wait_seconds: PositiveSeconds = 30.0
