"""The cost of a message in the Python client, in this working tree and another one, as a ratio.

    git worktree add ../before REVISION && make -C ../before check
    python -m bench.client ../before

One service; a client of each tree reads from it, one after the other, in alternating order, so that
drift of the machine's speed favours neither. `replay`: the last COUNT records at once, on asyncio
and on uvloop; many messages arrive in one read. `live`: records at --rate a second, one by one, so
that each also costs a turn of the event loop. The ratios are this tree's cost to the other's, round
by round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.against import alternating
from bench.kit.line_process import LineProcess
from bench.kit.measuring import spread
from bench.kit.record import RealRecords
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import eventually

ROOT: Final = Path(__file__).parent.parent
# Written before the replays, as fast as the broker takes them.
_FILL_RATE: Final = 20_000.0


def replay_us(service: MeasuredService, tree: Path, count: int, loop: str) -> float:
    with reader(service, tree, count, count, loop) as client:
        client.line()
        return float(client.answer())


def live_us(service: MeasuredService, writer: Writer, tree: Path, rate: float, count: int) -> float:
    with reader(service, tree, count, 0, "asyncio") as client:
        client.line()
        writer.write(rate, count / rate)
        return float(client.answer())


def reader(service: MeasuredService, tree: Path, count: int, last: int, loop: str) -> LineProcess:
    # Without -P, the directory of the script would be the first to import from.
    command: list[str | Path] = [tree / ".venv/bin/python", "-P", ROOT / "bench/kit/reader.py"]
    return LineProcess([*command, service.url, str(count), str(last), loop], token=service.token)


def measured(
    service: MeasuredService, writer: Writer, options: argparse.Namespace
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Each measurement's name, and both trees' CPU microseconds per message in each round."""
    trees = ROOT, options.other.resolve()
    writer.write(_FILL_RATE, options.count / _FILL_RATE)
    eventually(
        lambda: service.boards()["worker-0"]["frames"] >= options.count,
        "the worker has every record",
    )
    for loop in ("asyncio", "uvloop"):
        this, that = (partial(replay_us, service, tree, options.count, loop) for tree in trees)
        yield f"replay, {loop}", alternating(this, that, options.rounds)
    count = int(options.rate * 2)
    this, that = (partial(live_us, service, writer, tree, options.rate, count) for tree in trees)
    yield "live, asyncio", alternating(this, that, options.rounds)


def main() -> int:
    parser = arguments(__doc__, count=9_000, rate=500.0, rounds=7)
    parser.add_argument("other", type=Path, help="the other working tree, with its .venv")
    options = parser.parse_args()
    results = {}
    with MeasuredService(1) as service:
        writer = Writer(service.brokers, RealRecords().build)
        for name, pairs in measured(service, writer, options):
            results[name] = {
                "this_us": round(statistics.median(this for this, _ in pairs), 2),
                "other_us": round(statistics.median(other for _, other in pairs), 2),
                **spread("ratio", [this / other for this, other in pairs]),
            }
            print(name, *(f"{what}={value}" for what, value in results[name].items()), flush=True)
    save(options.out, results, {"websockets": version("websockets")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
