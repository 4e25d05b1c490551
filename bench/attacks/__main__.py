"""Attacks on the real service, and what honest clients beside the attacker notice of them.

    python -m bench.attacks --list                     the attacks and the answers to them
    python -m bench.attacks --only refused,queries     some of them
    python -m bench.attacks --against DIR --out FILE   all, also on the working tree in DIR

20 honest clients with a token each receive 20 records a second from one worker, while a client
pings, newcomers connect, a client resumes from the log (in some) and an operator asks the admin
port, all from other addresses than the attacker's. Each attack has a service of its own: calm
windows, windows under attack, calm windows again. The service has limits like those an operator
would set (tree.LIMITS; --no-limits: none), as far as its working tree knows them.

On at least two cores, each worker has one of its own. The attacker shares the others with the
clients, runs only while nothing else wants them, and its rate is bounded; so the figures are the
worker's, not the attacker's. The attack `nothing` shows what the attacker costs by itself.

Exits with status 1 if an honest client lost a record or its connection, if the attacker got more
than its share, or if honest clients noticed the attack: p99 more than 1.5 times the calm one, a
newcomer not let in within a second, or a worker that grew by more than is said.
"""

from __future__ import annotations

import argparse
import os
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench.attacks import cores
from bench.attacks.attack import Attack
from bench.attacks.classes import ATTACKS
from bench.attacks.probes import PATIENCE_SECONDS
from bench.attacks.stage import Stage
from bench.attacks.tree import LIMITS, Tree, merged
from bench.attacks.verdict import broken, combined, figures, noticed
from bench.kit.io_uring import SETTINGS
from bench.kit.results import arguments, save


def measure(
    tree: Tree, attack: Attack, options: argparse.Namespace, apart: set[int] | None
) -> dict[str, Any]:
    """One trial: figures, the attacker's counts and what is wrong; or why it is skipped."""
    if lacking := tree.lacks(attack.needs):
        return {"skipped": lacking}
    settings = merged(
        {} if options.no_limits else LIMITS,
        {"server": {"io_uring": options.io_uring}} if options.io_uring else {},
    )
    with Stage(
        tree,
        attack,
        clients=options.clients,
        rate=options.rate,
        workers=options.workers,
        settings=settings,
        apart=apart,
    ) as stage:
        if lacking := stage.lacks(attack):
            return {"skipped": lacking}
        trial = stage.tried(attack, options.seconds, options.windows)
        io_uring = stage.service.io_uring()
    row = figures(attack, trial, PATIENCE_SECONDS)
    return {
        "figures": row,
        "attacker": trial.attacker,
        "broken": broken(attack, row, trial.attacker, tree.keys if not options.no_limits else ()),
        "io_uring": io_uring,
    }


def run(
    attack: Attack,
    trees: dict[str, Tree],
    options: argparse.Namespace,
    apart: set[int] | None,
) -> dict[str, Any]:
    """Every round on every tree, in alternating order; medians, and everything that was wrong."""
    trials: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for number in range(options.rounds):
        for name in list(trees)[:: -1 if number % 2 else 1]:
            try:
                trials[name].append(measure(trees[name], attack, options, apart))
            except (AssertionError, OSError, RuntimeError, HTTPException) as error:
                # The other attacks are tried all the same.
                trials[name].append({"failed": f"{type(error).__name__}: {error}"})
    found: dict[str, Any] = {}
    for name, rows in trials.items():
        if unusual := [row for row in rows if "figures" not in row]:
            found[name] = unusual[0]
            print(f"{attack.name:20} {name:6} {unusual[0]}", flush=True)
            continue
        shown = combined([row["figures"] for row in rows])
        found[name] = {
            "figures": shown,
            "attacker": combined([row["attacker"] for row in rows]),
            "broken": sorted({problem for row in rows for problem in row["broken"]}),
            "noticed": [] if attack.comparison else noticed(attack, shown),
            "io_uring": rows[0]["io_uring"],
        }
        _show(attack, name, found[name])
    return found


def _show(attack: Attack, name: str, row: dict[str, Any]) -> None:
    shown = row["figures"]
    problems = row["broken"] + row["noticed"]
    each = f", {shown['us_each']:.0f} µs each" if "us_each" in shown else ""
    print(
        f"{attack.name:20} {name:6} p99 {shown['calm_p99_ms']:.1f} → {shown['p99_ms']:.1f} ms "
        f"(× {shown['p99_ratio']:.2f}), "
        f"pong {shown.get('pong_ms', 0):.1f}/{shown.get('pong_worst_ms', 0):.0f}, "
        f"newcomer {shown.get('newcomer_ms', 0):.1f}/{shown.get('newcomer_worst_ms', 0):.0f} ms, "
        f"memory {shown['memory_before_mib']:.0f} / {shown['memory_peak_mib']:.0f} / "
        f"{shown['memory_after_mib']:.0f} MiB, kernel {shown.get('kernel_peak_mib', 0):.0f}, "
        f"descriptors {shown['descriptors_peak']:.0f}, cores {shown['cores']:.2f}{each}: "
        f"{'; '.join(problems) or 'ok'}\n"
        f"{'':27} {row['attacker']}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = arguments(
        __doc__,
        prog="python -m bench.attacks",
        clients=20,
        rate=20.0,
        workers=1,
        rounds=1,
        windows=3,
        seconds=4.0,
    )
    parser.add_argument("--only", help="names of attacks, separated by commas")
    parser.add_argument("--against", type=Path, help="another working tree, with its .venv")
    parser.add_argument("--no-limits", action="store_true", help="the service's own defaults")
    parser.add_argument("--io-uring", choices=SETTINGS, help="server.io_uring of the service")
    parser.add_argument("--list", action="store_true", help="list the attacks and run nothing")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.list:
        for attack in ATTACKS.values():
            print(f"{attack.name:20} {attack.who}: {attack.title}\n{'':20} {attack.answer}")
        return 0
    names = options.only.split(",") if options.only else list(ATTACKS)
    if unknown := sorted(set(names) - ATTACKS.keys()):
        parser.error(f"no such attack: {', '.join(unknown)}; --list shows all of them")
    trees = {"this": Tree()}
    if options.against is not None:
        trees["other"] = Tree(options.against.resolve())
    apart = None
    if divided := cores.divided(os.sched_getaffinity(0), options.workers):
        apart, rest = divided
        # Every child begins there.
        cores.move(os.getpid(), rest)
    described = {
        "clients": options.clients,
        "rate": options.rate,
        "workers": options.workers,
        "rounds": options.rounds,
        "windows": options.windows,
        "seconds": options.seconds,
        "limits": not options.no_limits,
        "apart": apart is not None,
        "revisions": {name: tree.revision() for name, tree in trees.items()},
    }
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        rows[name] = run(ATTACKS[name], trees, options, apart)
        # A whole series takes most of an hour: what was measured is kept if it does not end.
        save(options.out, {**described, "attacks": rows})
    wrong = [
        name
        for name, found in rows.items()
        if any(found["this"].get(what) for what in ("broken", "noticed", "failed"))
    ]
    if wrong:
        print(f"not as it should be: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
