"""The table of all metrics (docs/metrics.md), each made from a Status at each scrape.

The configuration bounds the number of series: no client input becomes a label.
"""

from __future__ import annotations

from typing import Final

from energyws.control.admin.definitions import Definition, counter, gauge, histogram
from energyws.control.admin.keyed_metrics import KEYED
from energyws.control.admin.samples import (
    broker_up,
    buckets,
    by_name,
    certificate_expires,
    exits,
    io_uring,
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

WORKER: Final = "worker"
PROCESS: Final = "process"
DEFINITIONS: Final[tuple[Definition, ...]] = (
    gauge(
        "energyws_ready", "1 while /ready answers 200.", single(lambda status: not status.reasons)
    ),
    gauge(
        "energyws_draining",
        "1 while the service drains.",
        single(lambda status: status.draining),
    ),
    gauge(
        "energyws_build_info",
        "1; the version is a label.",
        lambda totals: [((totals.status.version,), 1)],
        "version",
    ),
    gauge(
        "energyws_workers_wanted",
        "Configured or scaled number of workers.",
        single(lambda status: status.workers_wanted),
    ),
    gauge(
        "energyws_workers_ready",
        "Workers that are ready.",
        single(
            lambda status: sum(
                each.slot is not None and each.state == "ready" for each in status.processes
            )
        ),
    ),
    gauge(
        "energyws_max_connections",
        "server.max_connections.",
        single(lambda status: status.max_connections),
    ),
    gauge(
        "energyws_connections", "Connected clients.", levels_of_workers(Field.CONNECTIONS), WORKER
    ),
    gauge(
        "energyws_event_streams",
        "Connected clients with Server-Sent Events.",
        levels_of_workers(Field.EVENT_STREAMS),
        WORKER,
    ),
    gauge(
        "energyws_pending_connections",
        "Accepted connections that are not clients yet, or never will be.",
        levels_of_workers(Field.PENDING),
        WORKER,
    ),
    counter(
        "energyws_limited",
        "How often a client met a limit, by its key in `limits`.",
        labelled(counters.LIMITED),
        "limit",
    ),
    counter(
        "energyws_handshakes",
        "Handshakes and requests for records: accepted, or the error code that refused them.",
        labelled(counters.HANDSHAKES),
        "result",
    ),
    counter(
        "energyws_token_refusals",
        "Tokens refused, at a handshake or a renewal.",
        labelled(counters.TOKEN_REFUSALS),
        "reason",
        "claim",
    ),
    gauge(
        "energyws_issuer_keys_fetched_timestamp_seconds",
        "When an issuer's keys were last fetched, in Unix seconds; 0: not yet.",
        lambda totals: [((name,), at) for name, at in totals.status.issuers.items()],
        "issuer",
    ),
    counter(
        "energyws_closes",
        "Connections that ended: the side that closed first, and the close code.",
        labelled(counters.CLOSED),
        "by",
        "code",
    ),
    counter(
        "energyws_resumes",
        "Subscriptions that requested history: where it began, and whether all of it was there.",
        labelled(counters.RESUMES),
        "depth",
        "result",
    ),
    counter(
        "energyws_frames_published",
        "Frames that the consumer published.",
        of_consumer(Field.FRAMES),
    ),
    counter(
        "energyws_frames_received",
        "Frames that a worker received from the bus.",
        of_workers(Field.FRAMES),
        WORKER,
    ),
    counter(
        "energyws_deliveries",
        "Frames written to clients' sockets, counted per client.",
        of_workers(Field.DELIVERIES),
        WORKER,
    ),
    counter(
        "energyws_writes",
        "Writes to clients' sockets; waiting frames share one.",
        of_workers(Field.WRITES),
        WORKER,
    ),
    counter(
        "energyws_sent_bytes",
        "Bytes of frames written to clients' sockets, before TLS.",
        of_workers(Field.BYTES),
        WORKER,
    ),
    gauge(
        "energyws_io_uring",
        "1 for a worker that sends live frames by io_uring, else 0; the state says why.",
        io_uring,
        WORKER,
        "state",
    ),
    histogram(
        "energyws_fanout_seconds",
        "From the first client's write of a batch of frames to the last one's.",
        buckets(counters.FANOUT),
        WORKER,
    ),
    histogram(
        "energyws_delivery_age_seconds",
        "Age of a batch's oldest record, by its timestamp, at the last client's write.",
        buckets(counters.AGE),
        WORKER,
    ),
    gauge(
        "energyws_lagging_clients",
        "Subscriptions that are not live: behind, or in a replay.",
        levels_of_workers(Field.LAGGING),
        WORKER,
    ),
    counter(
        "energyws_skipped_frames",
        "Frames that slow clients missed, as reported to them in `lagged`.",
        of_workers(Field.SKIPPED),
        WORKER,
    ),
    counter(
        "energyws_bus_resyncs",
        "How often a worker missed something on the bus and fetched it.",
        of_workers(Field.RESYNCS),
        WORKER,
    ),
    histogram(
        "energyws_loop_delay_seconds",
        "How late the event loop runs its heartbeat, four times a second.",
        buckets(counters.LOOP_DELAY, workers=False),
        PROCESS,
    ),
    counter(
        "energyws_process_cpu_seconds",
        "CPU time, user and system.",
        by_name(lambda totals: totals.cpu),
        PROCESS,
    ),
    gauge(
        "energyws_memory_pressure",
        "1 while a worker refuses clients for lack of memory, 2 while it closes slow ones, too.",
        levels_of_workers(Field.MEMORY_PRESSURE),
        WORKER,
    ),
    gauge(
        "energyws_process_resident_memory_bytes",
        "Resident memory.",
        by_name(lambda totals: totals.resident),
        PROCESS,
    ),
    gauge(
        "energyws_process_open_fds",
        "Open file descriptors.",
        by_name(lambda totals: totals.files),
        PROCESS,
    ),
    gauge(
        "energyws_process_max_fds",
        "Limit of open file descriptors.",
        by_name(lambda totals: totals.max_files),
        PROCESS,
    ),
    counter(
        "energyws_process_starts",
        "Starts of a child; all but the first are restarts.",
        by_name(lambda totals: totals.status.starts),
        PROCESS,
    ),
    counter(
        "energyws_process_exits",
        "Exits of a child: told, failed, killed, hung or overdue.",
        exits,
        "process",
        "reason",
    ),
    gauge("energyws_broker_up", "1 while the broker is reachable.", broker_up),
    gauge(
        "energyws_consumer_lag_records",
        "Records of a partition that the consumer has not passed on yet.",
        lag_records,
        "stream",
        "partition",
    ),
    gauge(
        "energyws_consumer_lag_seconds",
        "Age of the newest record passed on, while others wait; 0 while none waits.",
        lag_seconds,
        "stream",
        "partition",
    ),
    gauge(
        "energyws_newest_record_timestamp_seconds",
        "Timestamp of a stream's newest record that was read, in Unix seconds.",
        newest_records,
        "stream",
    ),
    counter(
        "energyws_bad_records",
        "Records skipped because they cannot be made a JSON object, or are too large.",
        of_streams(lambda records: records.bad),
        "stream",
    ),
    counter(
        "energyws_skipped_records",
        "The same records, by the reason in their log line.",
        labelled(counters.SKIPPED),
        "reason",
    ),
    counter(
        "energyws_schema_fetches",
        "Questions to the schema registry, by how they ended.",
        labelled(counters.SCHEMA_FETCHES),
        "result",
    ),
    counter(
        "energyws_null_values",
        "Values of Avro and Protobuf that JSON cannot express, such as NaN: clients get null.",
        labelled(counters.NULL_VALUES),
        "format",
    ),
    gauge(
        "energyws_schema_waiting_partitions",
        "Partitions that are not read until their next record's schema can be fetched.",
        of_consumer(Field.SCHEMA_WAITS),
    ),
    counter(
        "energyws_lost_records",
        "Records that retention removed before they were read.",
        of_streams(lambda records: records.lost),
        "stream",
    ),
    counter(
        "energyws_read_back_records",
        "Records read again for clients that requested history.",
        of_consumer(Field.READ_BACK),
    ),
    gauge(
        "energyws_history_frames",
        "Frames in a process's memory.",
        of_each(lambda columns, _: columns[Field.RING_FRAMES]),
        PROCESS,
    ),
    gauge(
        "energyws_history_bytes",
        "Bytes of the frames in a process's memory.",
        of_each(lambda columns, _: columns[Field.RING_BYTES]),
        PROCESS,
    ),
    gauge(
        "energyws_history_seconds",
        "Age of the oldest record in a process's memory.",
        of_each(oldest_seconds),
        PROCESS,
    ),
    gauge(
        "energyws_history_questions",
        "Subscriptions that wait for history from Kafka's log.",
        levels_of_workers(Field.HISTORY_QUESTIONS),
        WORKER,
    ),
    gauge(
        "energyws_certificate_expiry_timestamp_seconds",
        "Earliest expiry of a worker's certificate and its chain, in Unix seconds.",
        of_each(certificate_expires),
        WORKER,
    ),
    counter(
        "energyws_config_reloads",
        "Configurations given to a running process: taken or refused.",
        reloads,
        "process",
        "result",
    ),
    counter(
        "energyws_reload_refusals",
        "Configurations that the supervisor refused, by what was wrong.",
        labelled(counters.RELOAD_REFUSALS),
        "reason",
    ),
    *KEYED,
)
