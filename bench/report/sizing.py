"""The figures in docs/sizing.md, derived from the results of several measurements.

The functions are pure: from result documents to Markdown. The formula is that of bench.tune.advice;
memory and descriptors are computed as for the warnings that the service logs when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bench.report.tables import figure, kind, table
from bench.tune.advice import BUSIEST_SHARE, cores_used, disagreements, estimate
from bench.tune.table import trial
from energyws.control.host.memory import needed
from energyws.control.host.shortages import OTHER_DESCRIPTORS, fullest
from energyws.settings import MIB, Kafka, Server, Settings, Tls

Documents = Mapping[str, Mapping[str, Mapping[str, Any]]]
Row = Mapping[str, Any]

_CONNECTIONS: Final = (1_000, 5_000, 10_000, 50_000)
_WORKERS: Final = (1, 2, 4)
_RATES: Final = (1, 4, 20)
# A row of bench.fanout is comparable with a trial if clients and rate differ by at most this.
_LIKE: Final = 1.5
# With fewer writes per delivery than this, frames share writes.
_ALONE: Final = 0.95


def _fanout(documents: Documents) -> list[Row]:
    return [
        row
        for document in documents.get("fanout", {}).values()
        for row in document["results"]["fanout"]
    ]


def workers(documents: Documents) -> str:
    """The formula, its results for the loads of bench.fanout, and those of bench.tune."""
    parts = [
        "    workers = clients × records a second × µs a delivery ÷ 1,000,000 ÷ "
        f"{BUSIEST_SHARE:g}, rounded up\n",
        f"{BUSIEST_SHARE:.0%} of a core for the busiest worker leaves room for bursts and for many "
        "clients that reconnect together.\n",
    ]
    rows = []
    for row in _fanout(documents):
        deliveries = row["clients"] * row["records_per_second"]
        rows.append(
            [
                kind(row),
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
        number = results["advice"]["workers"]
        advised = "no number" if number is None else f"`server.workers: {number}`"
        yield (
            f"`bench.tune` measured {results['clients']:,} clients with {results['rate']:g} "
            f"records of {results['bytes']:,} B a second. The formula gives "
            f"{estimate(load, row['worker_us'])}; the measurement recommends {advised}, because "
            f"{results['advice']['reason']}."
        )


def comparable(documents: Documents) -> Iterator[tuple[float, Row, Mapping[str, Any]]]:
    """Deliveries a second, a row of bench.fanout, and comparable results of bench.tune.

    Trials with other records are omitted, since bench.fanout has no cost for them.
    """
    for document in documents.get("tune", {}).values():
        results = document["results"]
        like = [
            row
            for row in _fanout(documents)
            if not row["tls"]
            # The one with the default setting, as in bench.tune.
            and row.get("io_uring") != "off"
            and row["bytes"] == results["bytes"]
            and _apart(row["clients"], results["clients"]) <= _LIKE
            and _apart(row["records_per_second"], results["rate"]) <= _LIKE
        ]
        if like:
            yield results["clients"] * results["rate"], like[0], results


def _apart(one: float, other: float) -> float:
    return max(one, other) / min(one, other)


def contradictions(documents: Documents) -> list[str]:
    """Where the formula and bench.tune disagree about the same load."""
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
    """The limits of one worker, by the most expensive delivery that was measured."""
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
    """Rounded down to two significant digits, so as not to promise too much."""
    digits = 10 ** max(0, len(str(int(clients))) - 2)
    return int(clients // digits * digits)


def room(_: Documents) -> str:
    """Memory and descriptors by connections and workers, with all other keys at their defaults."""
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
                    *(
                        f"{needed(each, count, openssl).total / MIB:,.0f}"
                        for each, openssl in ((plain, (3, 0)), (secure, (3, 0)), (secure, (3, 5)))
                    ),
                ]
            )
    titles = ("`server.max_connections`", "workers", "descriptors a process")
    return table([*titles, "memory, MiB: plain", "TLS", "TLS, OpenSSL 3.5"], rows)


DERIVED: Final[dict[str, Callable[[Documents], str]]] = {
    "capacity": capacity,
    "room": room,
    "workers": workers,
}
