"""Turn a measurement's results into tables and plots for the pages, one function per bench.

Pure: the `results` of a file that `--out` wrote in, Markdown and SVG out. Figures are rounded here
and typed nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.plot import line_chart
from bench.tune import picture

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """Markdown, and the plots that follow it: their name to what they show and the SVG."""

    markdown: str
    plots: dict[str, tuple[str, str]] = field(default_factory=dict)


_DEFLATE_RUN: Final = ("us_per_delivery", "bytes_per_delivery", "consumer_us_per_record")
_DEFLATE_ALONE: Final = (
    "message_bytes",
    "shared_us",
    "shared_bytes",
    "each_us",
    "each_bytes",
    "each_kib_per_client",
)

_PEERS: Final = (
    "server",
    "deliveries/s",
    "µs per delivery",
    "ratio to energyws' worker",
    "ratio to worker and consumer",
    "p50, ms",
    "p99",
    "max",
    "p99 of energyws",
    "RSS per connection, kB: idle",
    "used",
    "lost",
)

Renderer = Callable[[Results], Section]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    head = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*head, *body]) + "\n"


def figure(value: float | None) -> str:
    """Three significant digits: 1,234,567 as it is, 12.3, 0.0123; nothing for None."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    places = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{places}f}"


def _of(cores: Mapping[str, float], kind: str) -> float:
    return sum(share for name, share in cores.items() if name.startswith(kind))


def curve(results: Results) -> Section:
    """bench.curve."""
    points = {int(clients): row for clients, row in results["points"].items()}
    rows = []
    for clients, row in sorted(points.items()):
        delay, published, cores = row["delay_ms"], row["published_ms"], row["cores"]
        rows.append(
            [
                f"{clients:,}",
                *(figure(delay[name]) for name in ("mean", "p50", "p99", "max")),
                figure(published),
                figure(delay["mean"] / published) if published else "",
                str(row["workers"]),
                *(
                    figure(_of(cores, kind))
                    for kind in ("worker-", "consumer", "broker", "generator-", "producer")
                ),
            ]
        )
    titles = (
        "clients",
        "mean, ms",
        "p50",
        "p99",
        "max",
        "published mean, ms",
        "ratio",
        "workers",
        "cores used: workers",
        "consumer",
        "broker",
        "clients",
        "producer",
    )
    lines = {
        "mean": [(clients, row["delay_ms"]["mean"]) for clients, row in points.items()],
        "p99": [(clients, row["delay_ms"]["p99"]) for clients, row in points.items()],
        "published mean (Lightstreamer)": [
            (clients, row["published_ms"])
            for clients, row in points.items()
            if row["published_ms"] is not None
        ],
    }
    chart = line_chart(
        "Kafka to everybody: 1,024 B, 4 records a second",
        "clients",
        "delay, milliseconds (logarithmic)",
        lines,
        logarithmic=True,
    )
    return Section(table(titles, rows), {"curve": ("Delay by the number of clients", chart)})


def delay(results: Results) -> Section:
    """bench.delay."""
    parts = []
    for broker, settings in results["delay"].items():
        rows = []
        for setting, measured in settings.items():
            rates = {name: row for name, row in measured.items() if isinstance(row, Mapping)}
            for rate, row in rates.items():
                # From the log's own time where the broker has one.
                delays = row.get("append_ms", row["write_ms"])
                rows.append(
                    [
                        setting,
                        rate,
                        *(figure(delays[name]) for name in ("mean", "p50", "p99", "max")),
                        f"{row['consumer_share_of_a_core']:.2%}",
                        f"{measured['idle_share_of_a_core']:.2%}",
                    ]
                )
        titles = ["fetch settings", "records", "mean, ms", "p50", "p99", "max"]
        titles += ["consumer, share of a core", "the same at rest"]
        name = {"kafka": "Apache Kafka", "embedded": "The embedded broker"}[broker]
        parts.append(f"{name}, {results['clients']} clients:\n\n{table(titles, rows)}")
    if results["ceiling"]:
        rows = [
            [
                setting,
                *(
                    figure(row[name])
                    for name in (
                        "records_per_second",
                        "mb_per_second",
                        "consumer_us_per_record",
                        "consumer_share_of_a_core",
                    )
                ),
            ]
            for setting, row in results["ceiling"].items()
        ]
        titles = ["fetch settings", "records/s", "MB/s", "consumer's CPU, µs per record"]
        titles.append("share of a core")
        first = next(iter(results["ceiling"].values()))
        parts.append(
            f"Catching up with {first['records']:,} records of {first['record_bytes']:,} B:\n\n"
            + table(titles, rows)
        )
    return Section("\n".join(parts))


def tune(results: Results) -> Section:
    """bench.tune."""
    rows = [
        [
            str(row["workers"]),
            figure(row["deliveries_per_second"]),
            figure(max(v for name, v in row["cores"].items() if name.startswith("worker-"))),
            figure(_of(row["cores"], "worker-")),
            figure(row["cores"]["consumer"]),
            f"{row['machine_share']:.0%}",
            figure(row["delay_ms"]["p50"]),
            figure(row["delay_ms"]["p99"]),
        ]
        for row in results["rows"]
    ]
    titles = ["workers", "deliveries/s", "busiest worker, cores", "all workers", "consumer"]
    titles += ["machine", "p50, ms", "p99, ms"]
    advice = results["advice"]
    if advice["workers"] is None:
        told = f"No number of workers can be recommended: {advice['reason']}."
    else:
        told = f"`server.workers: {advice['workers']}`, because {advice['reason']}."
    told += "".join(f"\n\nWarning: {warning}." for warning in advice["warnings"])
    head = f"{results['clients']:,} clients, {results['rate']:g} records a second:\n\n"
    plots = {"tune": ("Delay and CPU by the number of workers", picture(results["rows"]))}
    return Section(f"{head}{table(titles, rows)}\n{told}\n", plots)


def exactly_once(results: Results) -> Section:
    """bench.exactly_once."""
    names = ("clients", "records", "frames", "gaps", "duplicates", "checked")
    titles = (*names, "exactly once", "p50, ms", "p99", "max")
    delays = results["delay_ms"]
    row = [
        *(f"{results[name]:,}" for name in names),
        "yes" if results["exactly_once"] else "**no**",
        *(figure(delays[name]) for name in ("p50", "p99", "p100")),
    ]
    return Section(table(titles, [row]))


def fanout(results: Results) -> Section:
    """bench.fanout."""
    rows = []
    for row in results["fanout"]:
        ratio = row.get("ratio")
        apart = "" if ratio is None else f" ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"
        rows.append(
            [
                "TLS" if row["tls"] else "plain",
                f"{row['clients']:,}",
                f"{row['bytes']:,}",
                figure(row["records_per_second"]),
                figure(row["worker_us"]),
                figure(row.get("c_us")),
                "" if ratio is None else f"{ratio:.2f}{apart}",
                figure(row["deliveries_per_core_second"]),
                figure(row["consumer_us"]),
                *(figure(row[f"delay_{name}_ms"]) for name in ("p50", "p99", "p100")),
                figure(row["first_to_last_p50_ms"]),
            ]
        )
    titles = ["", "clients", "bytes", "records/s", "worker, µs per delivery"]
    titles += ["C loop, µs per send", "ratio", "deliveries per core-second"]
    titles.append("consumer, µs per delivery")
    titles += ["p50, ms", "p99", "max", "first to last client, ms"]
    return Section(table(titles, rows))


def idle(results: Results) -> Section:
    """bench.idle."""
    rows = [[name, figure(row["rss_mib"]), figure(row["pss_mib"])] for name, row in results.items()]
    return Section(table(("process", "RSS, MiB", "PSS, MiB"), rows))


def resume(results: Results) -> Section:
    """bench.resume."""
    rows = [
        [when, *(figure(results[f"live_delay_ms_{when}"][name]) for name in ("p50", "p99", "p100"))]
        for when in ("before", "meanwhile")
    ]
    head = (
        f"{results['resuming']:,} clients replay {results['records_each']:,} records each in "
        f"{figure(results['seconds_until_all_have_them'])} s, for which the service reads "
        f"{results['records_read_from_kafka']:,} records from Kafka. "
        f"Delay of {results['live']:,} clients that stay live:\n\n"
    )
    return Section(head + table(("", "p50, ms", "p99", "max"), rows))


def memory(results: Results) -> Section:
    """bench.memory."""
    rows = [
        [
            kind,
            moment,
            *(
                figure(row[name] / 1000)
                for name in ("rss", "pss", "private_dirty", "kernel_slab", "kernel_tcp")
            ),
        ]
        for kind in ("plain", "tls")
        if kind in results
        for moment, row in results[kind].items()
        if moment != "before"
    ]
    titles = ("", "moment", "RSS, kB", "PSS", "private dirty", "kernel: slabs", "kernel: TCP")
    head = f"Per connection, with {results['clients']:,} of them:\n\n"
    return Section(head + table(titles, rows))


def metrics(results: Results) -> Section:
    """bench.metrics."""
    rows = [
        [
            f"{row['clients']:,}",
            f"{row['bytes']:,}",
            f"{row['deliveries_per_second']:,.0f}",
            *(
                f"{row[f'{what}_ratio']:.3f} "
                f"({row[f'{what}_ratio_min']:.3f}–{row[f'{what}_ratio_max']:.3f})"
                for what in ("worker", "service")
            ),
            figure(row["worker_us_with"]),
            figure(row["worker_us_without"]),
        ]
        for row in results["loads"]
    ]
    titles = ["clients", "bytes", "deliveries/s", "worker's CPU, with ÷ without", "all processes'"]
    titles += ["worker with, µs per delivery", "without"]
    asked = results["scrape"]
    costs = ", ".join(f"{name} {cost:.2f} ms" for name, cost in asked["scrape_cpu_ms"].items())
    tail = (
        f"\nOne scrape: {asked['scrape_bytes']:,} bytes in {figure(asked['scrape_ms'])} ms; "
        f"CPU time per scrape, beyond that at rest: {costs}.\n"
    )
    return Section(table(titles, rows) + tail)


def deflate(results: Results) -> Section:
    """bench.deflate."""
    names = {"440": "440 B", "real": "the real record"}
    runs, alone = [], []
    for size, measured in results.items():
        for name, row in measured.items():
            if name == "without a network":
                alone.append([names[size], *(figure(row[key]) for key in _DEFLATE_ALONE)])
            elif isinstance(row, Mapping):
                runs.append([names[size], name, *(figure(row.get(key)) for key in _DEFLATE_RUN)])
            else:
                runs.append(
                    [names[size], name, " to ".join(map(figure, (row[0], row[-1]))), "", ""]
                )
    titles = ["record", "", "µs per delivery", "bytes per delivery", "consumer, µs per record"]
    costs = ["record", "message, bytes", "shared: µs", "bytes", "one per client: µs", "bytes"]
    costs.append("KiB per client")
    parts = [table(titles, runs), "One message, without a network:\n", table(costs, alone)]
    return Section("\n".join(parts))


def peers(results: Results) -> Section:
    """bench.peers: the rows of one kind of connection and size below each other."""
    parts = []
    rows = results["rows"]
    for tls, size in sorted({(row["tls"], row["bytes"]) for row in rows}):
        cells = []
        for row in rows:
            if (row["tls"], row["bytes"]) != (tls, size):
                continue
            ours = row["energyws"]
            alone = row["peer"] == "energyws"
            shown = {**ours, "us": ours["worker_us"]} if alone else row
            reached = row["load"] >= row["target"] * 0.99
            ratio = None if alone else row["worker"]["ratio"]
            cells.append(
                [
                    row["peer"],
                    f"{row['load']:,}"
                    + ("" if reached else " (its maximum)")
                    + ("" if alone or row["kept_up"] else " (**late**)"),
                    figure(shown["us"]),
                    figure(ratio) + (" (**less**)" if ratio is not None and ratio < 1 else ""),
                    figure(None if alone else row["service"]["ratio"]),
                    *(figure(shown[f"delay_p{p}_ms"]) for p in (50, 99, 100)),
                    "" if alone else figure(ours["delay_p99_ms"]),
                    figure(row["rss_kb_connected"]),
                    figure(row["rss_kb_used"]),
                    "" if alone else f"{row['lost']:,}",
                ]
            )
        head = f"{'TLS' if tls else 'Plain'}, {size:,} B, {results['clients']:,} clients:\n\n"
        parts.append(head + table(_PEERS, cells))
    skipped = [f"{name} was not measured: {why}." for name, why in results["skipped"].items()]
    made = [
        f"* {name}: " + ", ".join(f"{package} {number}" for package, number in versions.items())
        for name, versions in results["peers"].items()
    ]
    return Section("\n".join([*parts, *skipped, *made]) + "\n")


_STORMS: Final = {
    "seen": "plain, same tokens",
    "fresh": "plain, fresh tokens",
    "tls": "TLS, full handshakes",
    "tls_sessions": "TLS, sessions offered",
}


def storm(results: Results) -> Section:
    """bench.storm."""
    clients = results["clients"]
    rows = [
        [
            _STORMS[variant],
            *(
                figure(row["seconds_until_last"][step])
                for step in ("upgraded", "subscribed", "caught_up")
            ),
            figure(_of(row["cpu_us_per_client"], "worker-")),
            figure(row["cpu_us_per_client"]["generator"]),
            f"{row['refused']:,}",
            f"{row['gaps']:,}",
            f"{row['sessions_resumed'] / clients:.0%}" if variant.startswith("tls") else "",
            figure(row["live_delay_ms_before"]["p99"]),
            figure(row["live_delay_ms_meanwhile"]["p99"]),
        ]
        for variant, row in results["storms"].items()
    ]
    titles = ["", "last 101, s", "last subscribed", "last caught up", "workers, µs per client"]
    titles += ["generator", "refused", "gaps", "sessions resumed", "others' p99 before, ms"]
    titles.append("meanwhile")
    head = (
        f"{clients:,} clients reconnect at once to {results['workers']} workers, each "
        f"{results['missed']} records behind; {results['live']:,} others stay live:\n\n"
    )
    return Section(head + table(titles, rows))


def deploy(results: Results) -> Section:
    """bench.deploy, with and without --replicas."""
    rows = [
        [
            step["name"],
            figure(step["seconds"]),
            f"{step['reconnects']:,}",
            f"{step['failed']:,}",
            f"{step['newcomers']:,}",
            f"{step['newcomers_refused']:,}",
            f"{step['gaps']:,}",
            f"{step['duplicates']:,}",
            *(figure(step[f"pause_{name}"]) for name in ("median", "p99", "longest")),
        ]
        for step in results["steps"]
    ]
    titles = ["", "s", "reconnects", "of them refused", "newcomers", "of them refused", "gaps"]
    titles += ["duplicates", "pause of a client, s: median", "p99", "longest"]
    head = (
        f"{results['clients']:,} clients, {results['records_a_second']:g}/s records, "
        f"`server.drain_seconds: {results['drain_seconds']:g}`"
    )
    ceiling = results["ceiling"]
    if ceiling is None:
        return Section(f"{head}:\n\n{table(titles, rows)}")
    head += f", `server.drain_delay_seconds: {results['drain_delay_seconds']:g}`"
    head += f"; at most {results['busiest_second']} connect in a second, {ceiling:g} may:"
    lines: dict[str, list[tuple[float, float]]] = {
        step["name"]: list(enumerate(map(float, step["connects_each_second"])))
        for step in results["steps"]
    }
    last = max(at for line in lines.values() for at, _ in line)
    lines["ceiling"] = [(0.0, ceiling), (last, ceiling)]
    chart = line_chart(
        "Clients that connect while two replicas are deployed one after the other",
        "seconds since the TERM",
        "connects a second",
        lines,
    )
    plots = {"deploy": ("Connects a second against their ceiling", chart)}
    return Section(f"{head}\n\n{table(titles, rows)}", plots)


def replicas(results: Results) -> Section:
    """bench.replicas."""
    rows = [
        [
            f"{row['replicas']}",
            figure(row["records_per_second"]),
            f"{row['connections']}",
            figure(row["received_per_second"]),
            figure(row["sent_per_second"]),
            f"{row['broker_cores']:.1%}",
        ]
        for row in results["rows"]
    ]
    titles = ["replicas", "records/s", "connections each", "bytes/s to each", "bytes/s from each"]
    titles.append("broker, of a core")
    name = {"kafka": "Apache Kafka", "embedded": "The embedded broker"}[results["broker"]]
    head = f"{name}, frames of {results['bytes']:,} B:\n\n"
    return Section(head + table(titles, rows))


RENDERERS: Final[dict[str, Renderer]] = {
    "curve": curve,
    "deflate": deflate,
    "delay": delay,
    "deploy": deploy,
    "exactly_once": exactly_once,
    "fanout": fanout,
    "idle": idle,
    "memory": memory,
    "metrics": metrics,
    "peers": peers,
    "replicas": replicas,
    "resume": resume,
    "storm": storm,
    "tune": tune,
}
