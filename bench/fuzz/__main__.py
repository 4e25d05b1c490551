"""Random inputs for everything that reads what outsiders send.

    python -m bench.fuzz                               the long run: 10 million inputs and more
    python -m bench.fuzz message position --inputs 10000
    python -m bench.fuzz --seed 7 --out build/fuzz     pieces that are there already are kept
    python -m bench.fuzz --guided http --seconds 60    by coverage, with atheris

Targets are the decoders in targets.py, with random changes to the inputs in corpus/, and two more:

streams      streams of frames to a session and to `websockets`: both must say the same, or differ
             for one of the reasons in oracle.py
javascript   positions to the Python and the JavaScript client (needs node)

A run consists of pieces of 50,000 inputs. Each leaves a file in --out, from which a run that was
ended goes on; --processes of them run side by side. Equal seeds make equal inputs. Exits with
status 1 for any crash or unexplained difference, and prints the first of each piece, escaped as in
corpus/.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.fuzz import guided
from bench.fuzz.pieces import INPUTS, Piece, kept
from bench.kit.results import arguments, save

PIECE_INPUTS: Final = 50_000


def pieces(target: str, inputs: int, seed: int) -> list[Piece]:
    """The pieces of a target's run."""
    counts = [PIECE_INPUTS] * (inputs // PIECE_INPUTS)
    if rest := inputs % PIECE_INPUTS:
        counts.append(rest)
    return [Piece(target, seed, number, count) for number, count in enumerate(counts)]


def summary(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sums of the pieces' results, by target."""
    found: dict[str, dict[str, Any]] = {}
    for each in results:
        sums = found.setdefault(each["target"], {"inputs": 0, "crashes": 0, "outcomes": Counter()})
        sums["inputs"] += each["inputs"]
        sums["crashes"] += len(each["crashes"])
        sums["outcomes"].update(each["outcomes"])
    return found


def main() -> int:
    parser = arguments(__doc__, prog="bench.fuzz", seed=1, processes=2)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(INPUTS))
    parser.add_argument("--inputs", type=int, help="of each target, instead of a long run's")
    parser.add_argument("--guided", action="store_true", help="one target, with atheris")
    parser.add_argument("--seconds", type=int, default=60, help="of a guided run")
    parser.set_defaults(out="build/fuzz")
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in INPUTS]:
        parser.error(f"no target {unknown[0]!r}: there are {', '.join(INPUTS)}")
    if options.guided:
        return guided.run(options.targets or ["http"], options.seed, options.seconds)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    todo = [
        piece
        for name in options.targets or INPUTS
        for piece in pieces(name, options.inputs or INPUTS[name], options.seed)
    ]
    began = time.monotonic()
    results = []
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for result in pool.imap_unordered(partial(kept, out), todo):
            results.append(result)
            for crash in result["crashes"][:1]:
                print(f"CRASH {result['target']}: {crash['error']}\n  {crash['input']}", flush=True)
    found = summary(results)
    for name, sums in found.items():
        outcomes = ", ".join(f"{count} {what}" for what, count in sums["outcomes"].most_common())
        print(f"{name}: {sums['inputs']} inputs, {sums['crashes']} crashes ({outcomes})")
    crashes = sum(sums["crashes"] for sums in found.values())
    total = sum(sums["inputs"] for sums in found.values())
    print(f"{total} inputs, {crashes} crashes, {time.monotonic() - began:.0f} s")
    save(str(out / "summary.json"), {"seed": options.seed, "targets": found})
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
