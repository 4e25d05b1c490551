"""Tables of what Server-Sent Events, pages and HTTP requests cost, and of the way to the page."""

from __future__ import annotations

from typing import Final

from bench.report.tables import Results, Section, count, figure, table_of, text

_KINDS: Final = {"websocket": "WebSocket", "sse": "SSE"}
_WHEN: Final = {"without": "without visitors", "with": "with visitors"}


def ratio(row: Results, name: str) -> str:
    """The median and, in brackets, the extremes."""
    return f"{row[name]:.2f} ({row[f'{name}_min']:.2f}–{row[f'{name}_max']:.2f})"


def sse(results: Results) -> Section:
    rows = [
        {
            "load": f"{row['deliveries_per_second']:,.0f}",
            "over": f"{name}, TLS" if row["tls"] else name,
            "ratio": ratio(row, "ratio") if kind == "sse" else "",
            **row[kind],
        }
        for row in results["rows"]
        for kind, name in _KINDS.items()
    ]
    first = results["rows"][0]
    return Section(
        f"{first['clients']:,} clients, messages of {first['record_bytes']:,} B:\n\n"
        + table_of(
            rows,
            ("deliveries/s", text("load")),
            ("over", text("over")),
            ("worker, µs per delivery", "worker_us"),
            ("SSE ÷ WebSocket", text("ratio")),
            ("bytes per delivery", "bytes"),
            ("p50, ms", "delay_p50_ms"),
            ("p99", "delay_p99_ms"),
        )
    )


def visitors(results: Results) -> Section:
    rows = [{"when": words, **results[when]} for when, words in _WHEN.items()]
    shown = table_of(
        rows,
        ("", text("when")),
        ("p50, ms", "delay_p50_ms"),
        ("p99", "delay_p99_ms"),
        ("worker, µs per delivery", "worker_us"),
    )
    visits = results["visits"]
    took = visits["request_ms"]
    refused = visits["refused"] / max(1, visits["refused"] + visits["responses"])
    return Section(
        f"{count('clients')(results)} clients at {results['deliveries_per_second']:,.0f} "
        f"deliveries a second; the visitors are {results['pages']} open pages and "
        f"{results['requests_per_second']:g} requests a second, which take "
        f"{figure(took['p50'])} ms (p50) and {figure(took['p99'])} ms (p99); {refused:.1%} of them "
        f"were refused with 429:\n\n{shown}\n"
        f"With ÷ without: p99 {ratio(results, 'p99_ratio')}, worker's CPU time "
        f"{ratio(results, 'worker_ratio')}.\n"
    )


def first_gauge(results: Results) -> Section:
    runs: dict[str, list[Results]] = {}
    for row in results["rows"]:
        runs.setdefault(row["cache"], []).append(row)
    first, second = runs.values()
    rows = [
        {"step": row["step"], "first": row, "second": again}
        for row, again in zip(first, second, strict=True)
        if row["step"] != "ended"
    ]
    shown = table_of(
        rows,
        ("step", text("step")),
        ("seconds", lambda row: f"{row['first']['seconds']:.1f}"),
        ("in all", lambda row: f"{row['first']['total']:.1f}"),
        ("second run", lambda row: f"{row['second']['seconds']:.1f}"),
        ("in all", lambda row: f"{row['second']['total']:.1f}"),
    )
    kept = "what it had kept" if results["kept_bytes"] else "nothing either: the index forbids it"
    return Section(
        f"pip's cache was empty in the first run; in the second it held {kept}.\n\n{shown}"
    )
