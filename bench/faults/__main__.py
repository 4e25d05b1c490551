"""Injects every class of faults into the real service, under traffic, and checks every client.

    python -m bench.faults --times 20 --out results.json --markdown -

Exits with status 1 if a client lost a record or got one twice or out of order, or if another
expectation of a class did not hold. The printed seed repeats the run. With --io-uring auto, it is
such an expectation that the workers use io_uring; without the option, they do where they can.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.faults.brokers import FaultBroker, open_broker
from bench.faults.classes import FAULTS
from bench.faults.fault import Fault
from bench.faults.table import Result, markdown
from bench.faults.verdict import Outcome
from bench.faults.world import World
from bench.kit.io_uring import SETTINGS
from bench.kit.results import arguments, save

_KINDS: Final = {
    "embedded": ("embedded",),
    "kafka": ("kafka",),
    "both": ("embedded", "kafka"),
}
_topics = itertools.count()


def run_class(fault: Fault, broker: FaultBroker, options: argparse.Namespace) -> Result:
    """All injections of one class; a failure is followed by a new World."""
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        world: World | None = None
        for repetition in range(options.times):
            rng = random.Random(f"{options.seed} {fault.name} {broker.kind} {repetition}")
            try:
                if world is None:
                    world = stack.enter_context(
                        World(
                            fault,
                            broker,
                            clients=options.clients,
                            rate=options.rate,
                            sse=options.sse,
                            keyed=options.keyed,
                            tls=options.tls,
                            io_uring=options.io_uring,
                            name=f"faults-{os.getpid()}-{next(_topics)}",
                        )
                    )
                outcomes.append(world.inject(rng, repetition))
            except (AssertionError, OSError) as error:
                failed = Outcome(fault=fault.name, broker=broker.kind, repetition=repetition)
                failed.problems.append(str(error))
                outcomes.append(failed)
            last = repetition == options.times - 1
            if world is not None and (last or outcomes[-1].problems):
                outcomes.append(world.settle())
                stack.close()
                world = None
            if outcomes[-1].problems and options.fail_fast:
                break
    return Result(fault, broker.kind, outcomes)


def run(kind: str, faults: Sequence[Fault], options: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    with ExitStack() as stack:
        shared: FaultBroker | None = None
        for fault in faults:
            if kind not in fault.brokers:
                continue
            reason = fault.needs() or ("no TLS" if options.tls and fault.plain_only else None)
            if reason is not None:
                results.append(Result(fault, kind, skipped=reason))
                continue
            began = time.monotonic()
            if fault.own_broker:
                with open_broker(kind) as own:
                    result = run_class(fault, own, options)
            else:
                if shared is None:
                    shared = stack.enter_context(open_broker(kind))
                result = run_class(fault, shared, options)
            results.append(result)
            row = result.row()
            print(
                f"{time.monotonic() - began:6.1f} s  {kind}  {fault.number:2} {fault.name:24} "
                f"{row[4]} injected, {row[5]}, silence {row[10]} s, all live {row[11]} s, "
                f"io_uring {result.io_uring or 'unknown'}: {row[12]}",
                file=sys.stderr,
            )
            for problem in result.problems:
                print(f"          {problem}", file=sys.stderr)
    return results


def _percent(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = arguments(__doc__, prog="python -m bench.faults", clients=200, rate=30.0)
    parser.add_argument("--broker", choices=list(_KINDS), default="embedded")
    parser.add_argument("--only", help="names of classes, separated by commas")
    parser.add_argument("--times", type=int, default=3, help="injections of each class")
    parser.add_argument(
        "--sse",
        type=_percent,
        metavar="PERCENT",
        default=25,
        help="how many of the clients use Server-Sent Events (default: 25)",
    )
    parser.add_argument(
        "--keyed",
        type=_percent,
        metavar="PERCENT",
        default=25,
        help="how many of the clients have some keys each (default: 25); 0: a stream without keys",
    )
    parser.add_argument("--tls", action="store_true", help="all clients over TLS")
    parser.add_argument(
        "--io-uring",
        choices=SETTINGS,
        help="server.io_uring of the service; auto: fail if the workers do not use it",
    )
    parser.add_argument("--seed", type=int, help="for times and targets; default: random")
    parser.add_argument("--markdown", help="write the table here; -: standard output")
    parser.add_argument("--list", action="store_true", help="list the classes and run nothing")
    parser.add_argument("--fail-fast", action="store_true", help="end a class at its first failure")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    known = sorted(FAULTS.values(), key=lambda fault: (fault.number, fault.name))
    if options.list:
        for fault in known:
            print(f"{fault.number:2}  {fault.name:24} {fault.title}: {fault.expected}")
        return 0
    names = options.only.split(",") if options.only else [fault.name for fault in known]
    if unknown := sorted(set(names) - FAULTS.keys()):
        parser.error(f"no such class: {', '.join(unknown)}; --list shows all classes")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {options.seed}", file=sys.stderr)
    chosen = [fault for fault in known if fault.name in names]
    results = [result for kind in _KINDS[options.broker] for result in run(kind, chosen, options)]
    if options.markdown is not None:
        if options.markdown == "-":
            print(markdown(results), end="")
        else:
            Path(options.markdown).write_text(markdown(results))
    save(
        options.out,
        {
            "seed": options.seed,
            "classes": [
                {
                    "number": result.fault.number,
                    "name": result.fault.name,
                    "broker": result.broker,
                    "skipped": result.skipped,
                    "outcomes": [asdict(outcome) for outcome in result.outcomes],
                }
                for result in results
            ],
        },
    )
    problems = [problem for result in results for problem in result.problems]
    if problems:
        print(f"{len(problems)} problems; repeat with --seed {options.seed}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
