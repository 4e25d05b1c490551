"""Tables of attacks: what each one does, and what honest clients noticed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from bench.attacks.classes import ATTACKS
from bench.report.tables import Results, Section, figure, table, table_of, text

_TREES: Final = ("this", "other")


def attacks(results: Results) -> Section:
    rows = list(_rows(results))
    names = list(results["attacks"])
    others = "other" in results["revisions"]
    limits = "limits as an operator might set them" if results["limits"] else "no limits set"
    states = sorted({row["io_uring"] for row in rows if row["io_uring"]})
    io_uring = f"; io_uring: {', '.join(states)}" if states else ""
    alone = "; each worker has a core of its own" if results["apart"] else ""
    parts = [
        f"{results['clients']} honest clients of {results['workers']} worker, "
        f"{results['rate']:g} records a second each, {limits}{alone}{io_uring}. Medians of "
        f"{results['rounds']} × {results['windows']} windows of {results['seconds']:g} s under "
        "attack, compared with as many before and after it:",
        table_of(
            rows,
            ("attack", text("name")),
            *([("revision", text("revision"))] if others else []),
            ("p99, ms", lambda row: _change(row, "calm_p99_ms", "p99_ms")),
            ("ratio", lambda row: f"{row['p99_ratio']:.2f}"),
            ("pong, ms", lambda row: _typical(row, "pong")),
            ("newcomer, ms", lambda row: _typical(row, "newcomer")),
            ("not let in", lambda row: f"{row.get('newcomers_out', 0):g}"),
            ("worker, MiB", lambda row: _memory(row, "memory")),
            ("kernel, MiB", lambda row: _memory(row, "kernel")),
            ("cores", lambda row: f"{row['cores']:.2f}"),
            ("µs each", lambda row: figure(row.get("us_each"))),
            ("result", text("result")),
        ),
        "Pongs and newcomers: the median and the longest. Memory: before, at most during, and "
        "after the attack. The last but one: a worker's CPU time for each of the attacker's "
        "requests, handshakes or connections.",
        table(
            ("attack", "takes", "what the attacker does", "the answer"),
            [
                (name, ATTACKS[name].who, ATTACKS[name].title, ATTACKS[name].answer)
                for name in names
            ],
        ),
    ]
    return Section("\n\n".join(part.rstrip("\n") for part in parts) + "\n")


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    for name, found in results["attacks"].items():
        for tree in _TREES:
            if "figures" not in found.get(tree, {}):
                continue
            wrong = [*found[tree]["broken"], *found[tree]["noticed"]]
            yield {
                "name": name,
                "revision": results["revisions"][tree],
                "result": "; ".join(wrong)
                or ("for comparison" if ATTACKS[name].comparison else "held"),
                "io_uring": found[tree]["io_uring"],
                **found[tree]["figures"],
            }


def _change(row: Results, before: str, after: str) -> str:
    return f"{figure(row[before])} → {figure(row[after])}"


def _typical(row: Results, kind: str) -> str:
    if f"{kind}_ms" not in row:
        return ""
    return f"{figure(row[f'{kind}_ms'])}, {figure(row[f'{kind}_worst_ms'])}"


def _memory(row: Results, what: str) -> str:
    found = [row.get(f"{what}_{moment}_mib", math.nan) for moment in ("before", "peak", "after")]
    return " / ".join("" if math.isnan(value) else f"{value:,.0f}" for value in found)
