"""What docs/sizing.md says of sizes, derived from the results of several benches.

Pure: documents as bench.report finds them in, Markdown out. The formula is bench.advice's, memory
and descriptors are those that the service reckons with when it warns at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bench.advice import BUSIEST_SHARE, cores_used, disagreements, estimate
from bench.sections import figure, table
from bench.tune import trial
from energyws.control.host.memory import needed
from energyws.control.host.shortages import OTHER_DESCRIPTORS, fullest
from energyws.settings import MIB, Kafka, Server, Settings, Tls

Documents = Mapping[str, Mapping[str, Mapping[str, Any]]]
Row = Mapping[str, Any]

_CONNECTIONS: Final = (1_000, 5_000, 10_000, 50_000)
_WORKERS: Final = (1, 2, 4)
_RATES: Final = (1, 4, 20)
# A row of the fan-out is like a load that was tried when neither clients nor rate differ by more.
_LIKE: Final = 1.5
# Below this many writes for each delivery, frames share writes.
_ALONE: Final = 0.95


def _fanout(documents: Documents) -> list[Row]:
    return [
        row
        for document in documents.get("fanout", {}).values()
        for row in document["results"]["fanout"]
    ]


def _kind(row: Row) -> str:
    return "TLS" if row["tls"] else "plain"


def workers(documents: Documents) -> str:
    """The formula, what it says of the loads of bench.fanout, and how bench.tune finds it."""
    parts = [
        "    workers = clients × records a second × µs a delivery ÷ 1,000,000 ÷ "
        f"{BUSIEST_SHARE:g}, rounded up\n",
        f"{BUSIEST_SHARE:.0%} of a core for the busiest worker leaves room for a burst and for a "
        "crowd that reconnects.\n",
    ]
    rows = []
    for row in _fanout(documents):
        deliveries = row["clients"] * row["records_per_second"]
        rows.append(
            [
                _kind(row),
                f"{row['clients']:,}",
                f"{row['bytes']:,}",
                figure(row["records_per_second"]),
                figure(row["worker_us"]),
                figure(cores_used(deliveries, row["worker_us"])),
                str(estimate(deliveries, row["worker_us"])),
            ]
        )
    titles = ("", "clients", "bytes", "records/s", "µs a delivery", "cores", "workers")
    parts.append(table(titles, rows))
    parts += [f"{line}\n" for line in _tried(documents)]
    return "\n".join(parts)


def _tried(documents: Documents) -> Iterator[str]:
    for load, row, results in comparable(documents):
        says = estimate(load, row["worker_us"])
        advised = results["advice"]["workers"]
        told = "none can be recommended" if advised is None else f"`server.workers: {advised}`"
        yield (
            f"`bench.tune` tried {results['clients']:,} clients with {results['rate']:g} records "
            f"of {results['bytes']:,} B a second. The formula says {says}; tried: {told}, because "
            f"{results['advice']['reason']}."
        )


def comparable(documents: Documents) -> Iterator[tuple[float, Row, Mapping[str, Any]]]:
    """Deliveries a second, a row of bench.fanout, and the results of bench.tune that it is like.

    Those with records of somebody else are left out: their cost was not measured.
    """
    for document in documents.get("tune", {}).values():
        results = document["results"]
        like = [
            row
            for row in _fanout(documents)
            if not row["tls"]
            and row["bytes"] == results["bytes"]
            and _apart(row["clients"], results["clients"]) <= _LIKE
            and _apart(row["records_per_second"], results["rate"]) <= _LIKE
        ]
        if like:
            yield results["clients"] * results["rate"], like[0], results


def _apart(one: float, other: float) -> float:
    return max(one, other) / min(one, other)


def contradictions(documents: Documents) -> list[str]:
    """Where the formula and bench.tune tell different things of the same load."""
    return [
        f"{results['clients']:,} clients, {results['rate']:g} records a second: {what}"
        for load, row, results in comparable(documents)
        for what in disagreements(
            load,
            row["worker_us"],
            [trial(each) for each in results["rows"]],
            results["advice"]["workers"],
        )
    ]


def capacity(documents: Documents) -> str:
    """What one worker takes at most, by the costliest delivery that was measured."""
    costs: dict[tuple[bool, int], float] = {}
    for row in _fanout(documents):
        if row["writes_per_delivery"] >= _ALONE:
            key = row["tls"], row["bytes"]
            costs[key] = max(costs.get(key, 0.0), row["worker_us"])
    rows = []
    for (tls, size), us in sorted(costs.items()):
        deliveries = BUSIEST_SHARE * 1e6 / us
        rows.append(
            [
                "TLS" if tls else "plain",
                f"{size:,}",
                figure(us),
                figure(deliveries),
                *(f"{_rounded(deliveries / rate):,}" for rate in _RATES),
                figure(deliveries * size * 8 / 1e6),
            ]
        )
    titles = ["", "bytes", "µs a delivery", "deliveries/s"]
    titles += [f"clients at {rate} record{'s' if rate > 1 else ''}/s" for rate in _RATES]
    return table([*titles, "Mbit/s of payload"], rows)


def _rounded(clients: float) -> int:
    """To two digits, downwards: more would promise more."""
    digits = 10 ** max(0, len(str(int(clients))) - 2)
    return int(clients // digits * digits)


def room(_: Documents) -> str:
    """Memory and descriptors, by connections and workers, with the other keys at their defaults."""
    tls = Tls(cert="cert", key="key")
    rows = []
    for connections in _CONNECTIONS:
        for count in _WORKERS:
            server = Server(max_connections=connections)
            plain = Settings(kafka=Kafka(brokers="b", topic="t"), server=server)
            secure = replace(plain, server=replace(server, tls=tls))
            rows.append(
                [
                    f"{connections:,}",
                    str(count),
                    f"{fullest(connections, count) + OTHER_DESCRIPTORS:,}",
                    *(f"{needed(each, count).total / MIB:,.0f}" for each in (plain, secure)),
                ]
            )
    titles = ("`server.max_connections`", "workers", "descriptors a process")
    return table([*titles, "memory, MiB: plain", "TLS"], rows)


DERIVED: Final[dict[str, Callable[[Documents], str]]] = {
    "capacity": capacity,
    "room": room,
    "workers": workers,
}
