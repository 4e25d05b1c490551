"""The comparison with other servers, as tables."""

from __future__ import annotations

from typing import Any

from bench.report.tables import Results, Section, count, figure, table_of


def peers(results: Results) -> Section:
    """A table for each kind of connection and size, then the versions of each server."""
    parts = []
    for tls, size in sorted({(row["tls"], row["bytes"]) for row in results["rows"]}):
        rows = [row for row in results["rows"] if (row["tls"], row["bytes"]) == (tls, size)]
        head = f"{'TLS' if tls else 'Plain'}, {size:,} B, {results['clients']:,} clients:\n\n"
        parts.append(head + _table(rows))
    skipped = [f"{name} was not measured: {why}." for name, why in results["skipped"].items()]
    made = [
        f"* {name}: " + ", ".join(f"{package} {number}" for package, number in versions.items())
        for name, versions in results["peers"].items()
    ]
    return Section("\n".join([*parts, *skipped, *made]) + "\n")


def _table(rows: list[dict[str, Any]]) -> str:
    return table_of(
        [{**row["energyws"], "us": row["energyws"]["worker_us"], **row} for row in rows],
        ("server", _name),
        ("deliveries/s", _load),
        ("µs per delivery", "us"),
        ("ratio to energyws' worker", _by_worker),
        ("ratio to worker and consumer", _compared(lambda row: figure(row["service"]["ratio"]))),
        ("p50, ms", "delay_p50_ms"),
        ("p99", "delay_p99_ms"),
        ("max", "delay_p100_ms"),
        ("p99 of energyws", _compared(lambda row: figure(row["energyws"]["delay_p99_ms"]))),
        ("RSS per connection, kB: idle", "rss_kb_connected"),
        ("used", "rss_kb_used"),
        ("lost", _compared(count("lost"))),
    )


def _name(row: Results) -> str:
    return f"{row['peer']} (io_uring)" if row.get("io_uring") == "in_use" else str(row["peer"])


def _compared(cell: Any) -> Any:
    """A cell that is empty in the row of energyws itself."""
    return lambda row: "" if row["peer"] == "energyws" else cell(row)


def _load(row: Results) -> str:
    most = "" if row["load"] >= row["target"] * 0.99 else " (its maximum)"
    return f"{row['load']:,}{most}" + ("" if row.get("kept_up", True) else " (**late**)")


def _by_worker(row: Results) -> str:
    if row["peer"] == "energyws":
        return ""
    ratio = row["worker"]["ratio"]
    return figure(ratio) + (" (**less**)" if ratio < 1 else "")
