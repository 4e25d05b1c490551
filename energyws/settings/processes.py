"""Of the processes: their memory of the stream, the link between them, their port and log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from energyws.settings.types import KIB, MIB, STRICT, Count, Level, Port, PositiveSeconds, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How far back clients can go: in the ring of each process, and beyond it in Kafka's log.

    max_frames, max_bytes, max_age_seconds: the bounds of a ring, whichever is reached first.
    warm: the number of records per partition that are read from Kafka at start.
    max_messages, max_record_age_seconds: the number and age of records that a client may request.
    max_scan_records: the number of records that are read for a client that requests some keys of
    them. max_concurrent: history requests of one worker that are under way at the same time.
    bytes_per_second: the rate at which the log is sent to the workers, over all workers.
    """

    __pydantic_config__ = STRICT

    max_frames: Count = 10_000
    max_bytes: Annotated[int, Ge(64 * KIB)] = 16 * MIB
    max_age_seconds: PositiveSeconds = 3600.0
    warm: Annotated[int, Ge(0)] = 1_000
    max_messages: Count = 1_000_000
    max_record_age_seconds: PositiveSeconds | None = None
    max_scan_records: Count = 1_000_000
    max_concurrent: Annotated[int, Ge(1), Le(1024)] = 8
    bytes_per_second: Annotated[int, Ge(64 * KIB)] = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """The ZeroMQ link between the consumer and its workers (ipc, a fresh directory per run).

    high_watermark_frames: the queue for one slow worker; beyond it the publisher drops frames, and
    the worker requests them from the consumer (zguide chapter 5, Clone pattern).
    """

    __pydantic_config__ = STRICT

    high_watermark_frames: Count = 10_000
    heartbeat_seconds: PositiveSeconds = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """When a child counts as hung, and when its crashes count as a loop.

    hang_seconds: a child is killed after this time without a heartbeat and without CPU time.
    starved_seconds: a child is killed after this time without a heartbeat, busy or not.
    rebalance_seconds: how often workers with more than their share of clients shed some.
    core_dumps: whether crashes may write core dumps, which have secrets.
    """

    __pydantic_config__ = STRICT

    hang_seconds: PositiveSeconds = 5.0
    starved_seconds: PositiveSeconds = 60.0
    crash_loop_count: Count = 5
    crash_loop_seconds: PositiveSeconds = 30.0
    backoff_max_seconds: PositiveSeconds = 10.0
    rebalance_seconds: PositiveSeconds | None = None
    core_dumps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The operators' HTTP port (/live, /ready, /workers). Port 0 picks a free port.

    socket: the path of a Unix socket, in place of host and port. token: required of every request
    except probes; without a token, requests that change something (POST) are accepted on loopback
    and on the socket only. hosts: names by which requests without the token may ask.
    metrics_port: a second port, which answers probes and /metrics only; None: there is none.
    """

    __pydantic_config__ = STRICT

    host: Text = "127.0.0.1"
    port: Port = 8490
    socket: Text | None = None
    token: Text | None = field(default=None, repr=False)
    hosts: tuple[Text, ...] = ()
    metrics_host: Text = "127.0.0.1"
    metrics_port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The level and the format of the log."""

    __pydantic_config__ = STRICT

    level: Level = "INFO"
    format: Literal["text", "json"] = "text"
