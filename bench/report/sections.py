"""Tables and plots for the pages, with one function per measurement.

The functions are pure: from the `results` in a file written with `--out` to Markdown and SVG. Every
figure on a page comes from here; none is typed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from bench.report.attacks import attacks
from bench.report.http import first_gauge, ratio, sse, visitors
from bench.report.keyed import households, key_costs, keyed_curve, rollout, snapshot
from bench.report.peers import peers
from bench.report.plotted import curve, deploy, tune
from bench.report.schemas import schemas
from bench.report.tables import (
    SUMMARY,
    Results,
    Section,
    cores_of,
    count,
    figure,
    inner,
    kind,
    table_of,
    text,
)

Renderer = Callable[[Results], Section]

_BROKERS: Final = {"kafka": "Apache Kafka", "embedded": "The embedded broker"}
_DELAYS: Final = (("p50, ms", "p50"), ("p99", "p99"), ("max", "p100"))


def delay(results: Results) -> Section:
    parts = []
    for broker, settings in results["delay"].items():
        rows = [
            {"setting": setting, "rate": rate, "idle": found["idle_share_of_a_core"], **row}
            for setting, found in settings.items()
            for rate, row in found.items()
            if isinstance(row, Mapping)
        ]
        for row in rows:
            # From the append time if the broker has it.
            row["delay_ms"] = row.get("append_ms", row["write_ms"])
        shown = table_of(
            rows,
            ("fetch settings", text("setting")),
            ("records", text("rate")),
            *inner("delay_ms", *SUMMARY),
            ("consumer, share of a core", lambda row: f"{row['consumer_share_of_a_core']:.2%}"),
            ("the same at rest", lambda row: f"{row['idle']:.2%}"),
        )
        parts.append(f"{_BROKERS[broker]}, {results['clients']} clients:\n\n{shown}")
    if results["ceiling"]:
        rows = [{"setting": setting, **row} for setting, row in results["ceiling"].items()]
        parts.append(
            f"Catching up with {rows[0]['records']:,} records of {rows[0]['record_bytes']:,} B:\n\n"
            + table_of(
                rows,
                ("fetch settings", text("setting")),
                ("records/s", "records_per_second"),
                ("MB/s", "mb_per_second"),
                ("consumer's CPU, µs per record", "consumer_us_per_record"),
                ("share of a core", "consumer_share_of_a_core"),
            )
        )
    return Section("\n".join(parts))


def exactly_once(results: Results) -> Section:
    names = ("clients", "records", "frames", "gaps", "duplicates", "checked")
    return Section(
        table_of(
            [results],
            *((name, count(name)) for name in names),
            ("exactly once", lambda row: "yes" if row["exactly_once"] else "**no**"),
            *inner("delay_ms", *_DELAYS),
        )
    )


def fanout(results: Results) -> Section:
    def ratio(row: Results) -> str:
        if "ratio" not in row:
            return ""
        return f"{row['ratio']:.2f} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"

    return Section(
        table_of(
            results["fanout"],
            ("", kind),
            ("clients", count("clients")),
            ("bytes", count("bytes")),
            ("records/s", "records_per_second"),
            ("worker, µs per delivery", "worker_us"),
            ("C loop, µs per send", lambda row: figure(row.get("c_us"))),
            ("ratio", ratio),
            ("deliveries per core-second", "deliveries_per_core_second"),
            ("consumer, µs per delivery", "consumer_us"),
            *((title, f"delay_{name}_ms") for title, name in _DELAYS),
            ("first to last client, ms", "first_to_last_p50_ms"),
        )
    )


def idle(results: Results) -> Section:
    rows = [{"process": name, **row} for name, row in results.items()]
    shown = table_of(
        rows,
        ("process", text("process")),
        ("RSS, MiB", "rss_mib"),
        ("PSS, MiB", "pss_mib"),
        ("CPU, ms in a second", "cpu_ms_per_second"),
    )
    return Section(shown)


def resume(results: Results) -> Section:
    rows = [
        {"when": when, "delay_ms": results[f"live_delay_ms_{when}"]}
        for when in ("before", "meanwhile")
    ]
    head = (
        f"{results['resuming']:,} clients replay {results['records_each']:,} records each in "
        f"{figure(results['seconds_until_all_have_them'])} s, for which the service reads "
        f"{results['records_read_from_kafka']:,} records from Kafka. "
        f"Delay of {results['live']:,} clients that stay live:\n\n"
    )
    return Section(head + table_of(rows, ("", text("when")), *inner("delay_ms", *_DELAYS)))


def memory(results: Results) -> Section:
    rows = [
        {"kind": kind, "moment": moment, **{name: bytes_ / 1000 for name, bytes_ in row.items()}}
        for kind in ("plain", "tls")
        if kind in results
        for moment, row in results[kind].items()
        if moment != "before"
    ]
    shown = table_of(
        rows,
        ("", text("kind")),
        ("moment", text("moment")),
        ("RSS, kB", "rss"),
        ("PSS", "pss"),
        ("private dirty", "private_dirty"),
        ("kernel: slabs", "kernel_slab"),
        ("kernel: TCP", "kernel_tcp"),
    )
    return Section(f"Per connection, with {results['clients']:,} of them:\n\n{shown}")


def metrics(results: Results) -> Section:
    def ratio(of: str) -> Callable[[Results], str]:
        return lambda row: (
            f"{row[f'{of}_ratio']:.3f} ({row[f'{of}_ratio_min']:.3f}–{row[f'{of}_ratio_max']:.3f})"
        )

    shown = table_of(
        results["loads"],
        ("clients", count("clients")),
        ("bytes", count("bytes")),
        ("deliveries/s", lambda row: f"{row['deliveries_per_second']:,.0f}"),
        ("worker's CPU, with ÷ without", ratio("worker")),
        ("all processes'", ratio("service")),
        ("worker with, µs per delivery", "worker_us_with"),
        ("without", "worker_us_without"),
    )
    scrape = results["scrape"]
    costs = ", ".join(f"{name} {cost:.2f} ms" for name, cost in scrape["scrape_cpu_ms"].items())
    return Section(
        f"{shown}\nOne scrape: {scrape['scrape_bytes']:,} bytes in {figure(scrape['scrape_ms'])} "
        f"ms; CPU time per scrape, in addition to that at rest: {costs}.\n"
    )


def deflate(results: Results) -> Section:
    names = {"440": "440 B", "real": "the real record"}
    runs: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    for size, found in results.items():
        for name, row in found.items():
            about = {"record": names[size], "name": name}
            if name == "without a network":
                alone.append({**about, **row})
            elif isinstance(row, Mapping):
                runs.append({**about, "cpu": figure(row["us_per_delivery"]), **row})
            else:
                runs.append({**about, "cpu": " to ".join(map(figure, (row[0], row[-1])))})
    shown = table_of(
        runs,
        ("record", text("record")),
        ("", text("name")),
        ("µs per delivery", text("cpu")),
        ("bytes per delivery", lambda row: figure(row.get("bytes_per_delivery"))),
        ("consumer, µs per record", lambda row: figure(row.get("consumer_us_per_record"))),
    )
    costs = table_of(
        alone,
        ("record", text("record")),
        ("message, bytes", "message_bytes"),
        ("shared: µs", "shared_us"),
        ("bytes", "shared_bytes"),
        ("one per client: µs", "each_us"),
        ("bytes", "each_bytes"),
        ("KiB per client", "each_kib_per_client"),
    )
    return Section("\n".join([shown, "One message, without a network:\n", costs]))


def storm(results: Results) -> Section:
    names = {
        "seen": "plain, same tokens",
        "fresh": "plain, fresh tokens",
        "tls": "TLS, full handshakes",
        "tls_sessions": "TLS, sessions offered",
    }
    clients = results["clients"]

    def resumed(row: Results) -> str:
        return f"{row['sessions_resumed'] / clients:.0%}" if "TLS" in row["name"] else ""

    shown = table_of(
        [{"name": names[variant], **row} for variant, row in results["storms"].items()],
        ("", text("name")),
        *inner(
            "seconds_until_last",
            ("last 101, s", "upgraded"),
            ("last subscribed", "subscribed"),
            ("last caught up", "caught_up"),
        ),
        ("workers, µs per client", lambda r: figure(cores_of(r["cpu_us_per_client"], "worker-"))),
        *inner("cpu_us_per_client", ("generator", "generator")),
        ("refused", count("refused")),
        ("gaps", count("gaps")),
        ("sessions resumed", resumed),
        *inner("live_delay_ms_before", ("others' p99 before, ms", "p99")),
        *inner("live_delay_ms_meanwhile", ("meanwhile", "p99")),
    )
    return Section(
        f"{clients:,} clients reconnect together to {results['workers']} workers, each "
        f"{results['missed']} records behind; {results['live']:,} others stay live:\n\n{shown}"
    )


def handshake(results: Results) -> Section:
    names = {
        "plain": "plain",
        "tls": "TLS, full handshake",
        "tls_sessions": "TLS, session resumed",
    }
    shown = table_of(
        results["handshakes"],
        ("", lambda row: names[row["kind"]]),
        ("worker, µs per connection", "worker_us"),
        ("C loop", "c_us"),
        ("ratio", lambda row: ratio(row, "ratio")),
        ("clients, µs", "worker_clients_us"),
    )
    return Section(f"{results['clients']:,} clients of one worker come back together:\n\n{shown}")


def replicas(results: Results) -> Section:
    shown = table_of(
        results["rows"],
        ("replicas", text("replicas")),
        ("records/s", "records_per_second"),
        ("connections each", text("connections")),
        ("bytes/s to each", "received_per_second"),
        ("bytes/s from each", "sent_per_second"),
        ("broker, of a core", lambda row: f"{row['broker_cores']:.1%}"),
    )
    head = f"{_BROKERS[results['broker']]}, frames of {results['bytes']:,} B:\n\n"
    return Section(head + shown)


RENDERERS: Final[dict[str, Renderer]] = {
    "attacks": attacks,
    "curve": curve,
    "deflate": deflate,
    "delay": delay,
    "deploy": deploy,
    "exactly_once": exactly_once,
    "fanout": fanout,
    "first_gauge": first_gauge,
    "handshake": handshake,
    "households": households,
    "idle": idle,
    "key_costs": key_costs,
    "keyed_curve": keyed_curve,
    "memory": memory,
    "metrics": metrics,
    "peers": peers,
    "replicas": replicas,
    "resume": resume,
    "rollout": rollout,
    "schemas": schemas,
    "snapshot": snapshot,
    "sse": sse,
    "storm": storm,
    "tune": tune,
    "visitors": visitors,
}
