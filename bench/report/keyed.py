"""Sections of the measurements of streams with keys."""

from __future__ import annotations

from bench.report.plotted import delays_by_clients
from bench.report.tables import (
    Results,
    Section,
    cores_of,
    count,
    figure,
    inner,
    table_of,
    text,
)

_DELAYS = (("mean, ms", "mean"), ("p50", "p50"), ("p99", "p99"), ("p99.9", "p99.9"))


def keyed_curve(results: Results) -> Section:
    points = sorted(
        ({"clients": int(clients), **row} for clients, row in results["points"].items()),
        key=lambda row: row["clients"],
    )
    markdown = table_of(
        points,
        ("clients", count("clients")),
        ("deliveries", count("deliveries")),
        *inner("delay_ms", *_DELAYS, ("standard deviation", "standard_deviation")),
        ("lost", count("lost")),
        ("published mean, ms", "published_ms"),
        ("workers", text("workers")),
        ("worker, µs per delivery", "worker_us_per_delivery"),
        ("cores used: workers", lambda row: figure(cores_of(row["cores"], "worker-"))),
        ("consumer", lambda row: figure(cores_of(row["cores"], "consumer"))),
        ("broker", lambda row: figure(cores_of(row["cores"], "broker"))),
        ("clients", lambda row: figure(cores_of(row["cores"], "generator-"))),
    )
    published = [(int(clients), mean) for clients, mean in results["published_ms"].items()]
    title = "Each record to a 40th of the clients: 1,024 B, 40 keys, 100 records a second"
    return Section(markdown, {"keyed_curve": delays_by_clients(title, points, published)})


def households(results: Results) -> Section:
    parts = []
    for row in results["loads"]:
        about = (
            f"{row['clients']:,} clients, {row['meters']:,} meters, {row['records_per_second']:,} "
            f"records a second, of which {row['wanted']:,} were for a client; rings of "
            f"{row['ring_frames']:,} frames. {row['in_time']:.3%} of the wanted came within 100 "
            f"ms, {row['lost']} were lost:\n\n"
        )
        delays = table_of([row], *inner("delay_ms", *_DELAYS, ("max", "max")))
        processes = [
            {
                "process": process,
                "busy": share,
                "idle": row["share_of_a_core_idle"].get(process),
            }
            for process, share in row["share_of_a_core"].items()
        ]
        cores = table_of(
            processes,
            ("process", text("process")),
            ("share of a core", lambda one: f"{one['busy']:.2%}"),
            (
                "the same without records",
                lambda one: "" if one["idle"] is None else f"{one['idle']:.2%}",
            ),
        )
        parts.append(f"{about}{delays}\n{cores}")
    return Section("\n".join(parts))


def rollout(results: Results) -> Section:
    head = (
        f"{results['clients']:,} clients with a meter each, {results['workers']} workers, "
        f"{figure(results['records_per_second'])} records a second, `server.drain_seconds` "
        f"{figure(results['drain_seconds'])}:\n\n"
    )
    return Section(
        head
        + table_of(
            [results],
            ("came back", count("returned")),
            ("attempts refused", count("refused")),
            ("records read again from the log", count("records_read_again")),
            ("frames that came twice", count("duplicates")),
            ("lost", count("lost")),
            ("all processes new after, s", "seconds_until_all_processes_were_new"),
            ("all clients back after", "seconds_until_all_were_back"),
            ("longest without a connection", "longest_away_seconds"),
        )
    )


def key_costs(results: Results) -> Section:
    unwanted, memory = results["unwanted_us"], results["memory"]
    record = table_of(
        [unwanted],
        ("clients", count("clients")),
        ("stream with keys: worker, µs per record that nobody wants", "keyed"),
        ("stream without keys, nobody subscribed", "plain"),
        ("difference", "difference"),
    )
    key = table_of(
        [memory],
        ("clients", count("clients")),
        ("keys each", count("keys_each")),
        ("worker's memory per client with one key, bytes", count("bytes_per_client_with_one_key")),
        ("per further key, bytes", count("bytes_per_key")),
    )
    return Section(f"{record}\n{key}")


def snapshot(results: Results) -> Section:
    table, service = results["table"], results["service"]
    head = (
        f"{results['keys']:,} keys, frames of {results['frame_bytes']} bytes, on the embedded "
        "broker:\n\n"
    )
    memory = table_of(
        [{**table, **service}],
        ("table, MiB", "mib"),
        ("until it is warm", "mib_until_warm"),
        ("consumer in all", "consumer_mib"),
        ("warm after, s", "warm_seconds"),
        ("an old record, µs", "old_record_us"),
        ("a live record", "live_record_us"),
        ("a value for a client", "value_of_a_client_us"),
        ("a value in a scan of all", "value_in_a_scan_us"),
    )
    served = table_of(
        [{**service, **service["wrong"]}],
        ("clients that connect together", count("clients")),
        ("keys each", count("keys_of_a_client")),
        ("half have their snapshots after, s", "served_seconds_p50"),
        ("all", "served_seconds"),
        ("missing or foreign", lambda row: str(row["gaps"] + row["foreign"] + row["duplicates"])),
        ("CPU seconds: workers", lambda row: figure(cores_of(row["cpu_seconds"], "worker-"))),
        ("consumer", lambda row: figure(cores_of(row["cpu_seconds"], "consumer"))),
    )
    return Section(f"{head}{memory}\n{served}")
