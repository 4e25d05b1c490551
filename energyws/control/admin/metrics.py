"""The table of all metrics (docs/metrics.md), each made from a Status when Prometheus scrapes.

The configuration bounds the number of series: nothing that clients send is a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from energyws.control.admin.samples import (
    Labels,
    Read,
    broker_up,
    by_name,
    certificate_expires,
    exits,
    histogram,
    labelled,
    lag_records,
    lag_seconds,
    levels_of_workers,
    newest_records,
    of_consumer,
    of_each,
    of_streams,
    of_workers,
    oldest_seconds,
    reloads,
    single,
)
from energyws.process import counters
from energyws.process.board import Field


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. read: its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    help: str
    read: Read


WORKER: Final = ("worker",)
PROCESS: Final = ("process",)
DEFINITIONS: Final = (
    Definition(
        "energyws_ready",
        "gauge",
        (),
        "1 while /ready answers 200.",
        single(lambda status: not status.reasons),
    ),
    Definition(
        "energyws_draining",
        "gauge",
        (),
        "1 while the service shuts down.",
        single(lambda status: status.draining),
    ),
    Definition(
        "energyws_build_info",
        "gauge",
        ("version",),
        "1; the version is a label.",
        lambda totals: [((totals.status.version,), 1)],
    ),
    Definition(
        "energyws_workers_wanted",
        "gauge",
        (),
        "How many workers there should be.",
        single(lambda status: status.workers_wanted),
    ),
    Definition(
        "energyws_workers_ready",
        "gauge",
        (),
        "How many workers are ready.",
        single(
            lambda status: sum(
                each.slot is not None and each.state == "ready" for each in status.processes
            )
        ),
    ),
    Definition(
        "energyws_max_connections",
        "gauge",
        (),
        "server.max_connections.",
        single(lambda status: status.max_connections),
    ),
    Definition(
        "energyws_connections",
        "gauge",
        WORKER,
        "Connected clients.",
        levels_of_workers(Field.CONNECTIONS),
    ),
    Definition(
        "energyws_handshakes",
        "counter",
        ("result",),
        "Handshakes: accepted, or refused with an error code.",
        labelled(counters.HANDSHAKES),
    ),
    Definition(
        "energyws_token_refusals",
        "counter",
        ("reason", "claim"),
        "Refused tokens, at a handshake or a renewal.",
        labelled(counters.TOKEN_REFUSALS),
    ),
    Definition(
        "energyws_issuer_keys_fetched_timestamp_seconds",
        "gauge",
        ("issuer",),
        "When an issuer's keys were last fetched, in Unix seconds; 0: not yet.",
        lambda totals: [((name,), at) for name, at in totals.status.issuers.items()],
    ),
    Definition(
        "energyws_closes",
        "counter",
        ("by", "code"),
        "Connections that ended: which side closed them, and the close code.",
        labelled(counters.CLOSED),
    ),
    Definition(
        "energyws_resumes",
        "counter",
        ("depth", "result"),
        "Subscriptions that requested history: where it was found, and whether all of it was.",
        labelled(counters.RESUMES),
    ),
    Definition(
        "energyws_frames_published",
        "counter",
        (),
        "Frames that the consumer has published.",
        of_consumer(Field.FRAMES),
    ),
    Definition(
        "energyws_frames_received",
        "counter",
        WORKER,
        "Frames that a worker has received from the bus.",
        of_workers(Field.FRAMES),
    ),
    Definition(
        "energyws_deliveries",
        "counter",
        WORKER,
        "Frames handed to clients' sockets, each client counted.",
        of_workers(Field.DELIVERIES),
    ),
    Definition(
        "energyws_writes",
        "counter",
        WORKER,
        "Writes to clients' sockets; frames that wait share one.",
        of_workers(Field.WRITES),
    ),
    Definition(
        "energyws_sent_bytes",
        "counter",
        WORKER,
        "Bytes of frames handed to clients' sockets, before TLS.",
        of_workers(Field.BYTES),
    ),
    Definition(
        "energyws_fanout_seconds",
        "histogram",
        WORKER,
        "From the first client's write of a batch of frames to the last one's.",
        histogram(counters.FANOUT),
    ),
    Definition(
        "energyws_delivery_age_seconds",
        "histogram",
        WORKER,
        "Age of a batch's oldest record, by its timestamp, at the last client's write.",
        histogram(counters.AGE),
    ),
    Definition(
        "energyws_lagging_clients",
        "gauge",
        WORKER,
        "Subscriptions that are not live: behind, or being replayed.",
        levels_of_workers(Field.LAGGING),
    ),
    Definition(
        "energyws_skipped_frames",
        "counter",
        WORKER,
        "Frames that clients missed because they were too slow; they were told.",
        of_workers(Field.SKIPPED),
    ),
    Definition(
        "energyws_bus_resyncs",
        "counter",
        WORKER,
        "Times that a worker missed messages on the bus and fetched them.",
        of_workers(Field.RESYNCS),
    ),
    Definition(
        "energyws_loop_delay_seconds",
        "histogram",
        PROCESS,
        "How late the event loop's heartbeat is, four times a second.",
        histogram(counters.LOOP_DELAY, workers=False),
    ),
    Definition(
        "energyws_process_cpu_seconds",
        "counter",
        PROCESS,
        "CPU time, user and system.",
        by_name(lambda totals: totals.cpu),
    ),
    Definition(
        "energyws_process_resident_memory_bytes",
        "gauge",
        PROCESS,
        "Resident memory.",
        by_name(lambda totals: totals.resident),
    ),
    Definition(
        "energyws_process_open_fds",
        "gauge",
        PROCESS,
        "Open file descriptors.",
        by_name(lambda totals: totals.files),
    ),
    Definition(
        "energyws_process_max_fds",
        "gauge",
        PROCESS,
        "File descriptors that may be open.",
        by_name(lambda totals: totals.max_files),
    ),
    Definition(
        "energyws_process_starts",
        "counter",
        PROCESS,
        "Starts of a child; all but the first are restarts.",
        by_name(lambda totals: totals.status.starts),
    ),
    Definition(
        "energyws_process_exits",
        "counter",
        ("process", "reason"),
        "Ends of a child: told, failed, killed, hung or overdue.",
        exits,
    ),
    Definition(
        "energyws_broker_up",
        "gauge",
        (),
        "1 while the broker is reachable.",
        broker_up,
    ),
    Definition(
        "energyws_consumer_lag_records",
        "gauge",
        ("stream", "partition"),
        "Records of a partition that are not published yet.",
        lag_records,
    ),
    Definition(
        "energyws_consumer_lag_seconds",
        "gauge",
        ("stream", "partition"),
        "Age of the newest record published while others wait; 0 while none does.",
        lag_seconds,
    ),
    Definition(
        "energyws_newest_record_timestamp_seconds",
        "gauge",
        ("stream",),
        "Timestamp of a stream's newest record that was read, in Unix time.",
        newest_records,
    ),
    Definition(
        "energyws_bad_records",
        "counter",
        ("stream",),
        "Records that were skipped: not a JSON object, or too large.",
        of_streams(lambda records: records.bad),
    ),
    Definition(
        "energyws_lost_records",
        "counter",
        ("stream",),
        "Records that retention deleted before they were read.",
        of_streams(lambda records: records.lost),
    ),
    Definition(
        "energyws_read_back_records",
        "counter",
        (),
        "Records read again for clients that requested history.",
        of_consumer(Field.READ_BACK),
    ),
    Definition(
        "energyws_history_frames",
        "gauge",
        PROCESS,
        "Frames in a process's memory.",
        of_each(lambda columns, _: columns[Field.RING_FRAMES]),
    ),
    Definition(
        "energyws_history_bytes",
        "gauge",
        PROCESS,
        "Bytes of the frames in a process's memory.",
        of_each(lambda columns, _: columns[Field.RING_BYTES]),
    ),
    Definition(
        "energyws_history_seconds",
        "gauge",
        PROCESS,
        "Age of the oldest record in a process's memory.",
        of_each(oldest_seconds),
    ),
    Definition(
        "energyws_history_questions",
        "gauge",
        WORKER,
        "Subscriptions that wait for an answer from Kafka's log.",
        levels_of_workers(Field.HISTORY_QUESTIONS),
    ),
    Definition(
        "energyws_certificate_expiry_timestamp_seconds",
        "gauge",
        WORKER,
        "When the certificate that a worker serves, or one in its chain, expires, in Unix time.",
        of_each(certificate_expires),
    ),
    Definition(
        "energyws_config_reloads",
        "counter",
        ("process", "result"),
        "Reloads of the configuration by process: taken or refused.",
        reloads,
    ),
    Definition(
        "energyws_reload_refusals",
        "counter",
        ("reason",),
        "Refused reloads of the configuration: what was at fault.",
        labelled(counters.RELOAD_REFUSALS),
    ),
)
