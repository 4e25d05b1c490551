"""Sections of measurements with plots."""

from __future__ import annotations

from collections.abc import Sequence

from bench.kit.plot import line_chart
from bench.report.tables import (
    SUMMARY,
    Results,
    Section,
    cores_of,
    count,
    figure,
    inner,
    table_of,
    text,
)
from bench.tune.table import picture


def curve(results: Results) -> Section:
    points = sorted(
        ({"clients": int(clients), **row} for clients, row in results["points"].items()),
        key=lambda row: row["clients"],
    )

    def ratio(row: Results) -> str:
        published = row["published_ms"]
        return figure(row["delay_ms"]["mean"] / published) if published else ""

    markdown = table_of(
        points,
        ("clients", count("clients")),
        *inner("delay_ms", *SUMMARY),
        ("published mean, ms", "published_ms"),
        ("ratio", ratio),
        ("workers", text("workers")),
        ("cores used: workers", lambda row: figure(cores_of(row["cores"], "worker-"))),
        ("consumer", lambda row: figure(cores_of(row["cores"], "consumer"))),
        ("broker", lambda row: figure(cores_of(row["cores"], "broker"))),
        ("clients", lambda row: figure(cores_of(row["cores"], "generator-"))),
        ("producer", lambda row: figure(cores_of(row["cores"], "producer"))),
    )
    published = [
        (row["clients"], row["published_ms"]) for row in points if row["published_ms"] is not None
    ]
    title = "Every record to every client: 1,024 B, 4 records a second"
    return Section(markdown, {"curve": delays_by_clients(title, points, published)})


def delays_by_clients(
    title: str, points: Sequence[Results], published: Sequence[tuple[float, float]]
) -> tuple[str, str]:
    """The plot of a curve's delays, with its description. published: clients and means."""
    lines = {
        name: [(row["clients"], row["delay_ms"][name]) for row in points]
        for name in ("mean", "p99")
    }
    lines["published mean (Lightstreamer)"] = list(published)
    chart = line_chart(
        title, "clients", "delay, milliseconds (logarithmic)", lines, logarithmic=True
    )
    return "Delay by the number of clients", chart


def tune(results: Results) -> Section:
    def busiest(row: Results) -> str:
        return figure(max(v for name, v in row["cores"].items() if name.startswith("worker-")))

    shown = table_of(
        results["rows"],
        ("workers", text("workers")),
        ("deliveries/s", "deliveries_per_second"),
        ("busiest worker, cores", busiest),
        ("all workers", lambda row: figure(cores_of(row["cores"], "worker-"))),
        ("consumer", lambda row: figure(row["cores"]["consumer"])),
        ("machine", lambda row: f"{row['machine_share']:.0%}"),
        *inner("delay_ms", ("p50, ms", "p50"), ("p99, ms", "p99")),
    )
    advice = results["advice"]
    if advice["workers"] is None:
        advised = f"No number of workers can be recommended: {advice['reason']}."
    else:
        advised = f"`server.workers: {advice['workers']}`, because {advice['reason']}."
    advised += "".join(f"\n\nWarning: {warning}." for warning in advice["warnings"])
    head = f"{results['clients']:,} clients, {results['rate']:g} records a second:\n\n"
    plots = {"tune": ("Delay and CPU by the number of workers", picture(results["rows"]))}
    return Section(f"{head}{shown}\n{advised}\n", plots)


def deploy(results: Results) -> Section:
    shown = table_of(
        results["steps"],
        ("", text("name")),
        ("s", "seconds"),
        ("reconnects", count("reconnects")),
        ("of them refused", count("failed")),
        ("newcomers", count("newcomers")),
        ("of them refused", count("newcomers_refused")),
        ("gaps", count("gaps")),
        ("duplicates", count("duplicates")),
        ("pause of a client, s: median", "pause_median"),
        ("p99", "pause_p99"),
        ("longest", "pause_longest"),
    )
    head = (
        f"{results['clients']:,} clients, {results['records_a_second']:g}/s records, "
        f"`server.drain_seconds: {results['drain_seconds']:g}`"
    )
    ceiling = results["ceiling"]
    if ceiling is None:
        return Section(f"{head}:\n\n{shown}")
    head += f", `server.drain_delay_seconds: {results['drain_delay_seconds']:g}`"
    head += f"; {results['busiest_second']} connects in the busiest second, ceiling {ceiling:g}:"
    lines: dict[str, list[tuple[float, float]]] = {
        step["name"]: list(enumerate(map(float, step["connects_each_second"])))
        for step in results["steps"]
    }
    last = max(at for line in lines.values() for at, _ in line)
    lines["ceiling"] = [(0.0, ceiling), (last, ceiling)]
    chart = line_chart(
        "Connects while two replicas are deployed one after the other",
        "seconds since SIGTERM",
        "connects a second",
        lines,
    )
    plots = {"deploy": ("Connects a second, and their ceiling", chart)}
    return Section(f"{head}\n\n{shown}", plots)
