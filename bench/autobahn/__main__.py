"""Whether Autobahn's test suite finds what the committed table says, and nothing else.

    python -m bench.autobahn                   every run
    python -m bench.autobahn ws wss            some of them
    python -m bench.autobahn --if-possible     without Python 2.7, say so and succeed
    python -m bench.autobahn --accept          write the table anew (expected.json)

Autobahn's fuzzing client talks to an echo that consists of a worker's own listener, gate, sessions
and compression; only what a session does with a whole message is replaced. The runs:

ws, wss              RFC 6455, cases 1 to 7 and 10; `server.max_message_bytes` is raised, because
                     the largest message has 256 KiB
deflate, deflate-wss RFC 7692, cases 12 and 13; some minutes each. The limits on fragments and
                     messages a second are lifted: each case sends 1,000 messages
limits               with the default `server.max_message_bytes`, messages of 64 KiB: both cases are
                     to be closed with 1009, which Autobahn counts as failed

Autobahn needs Python 2.7, from PATH or from pyenv; the first run installs it, in half a minute.
Exits with status 1 for any difference from the table, and with 2 without Python 2.7.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from bench.autobahn import wstest
from bench.autobahn.outcomes import Table, differences, table
from bench.kit.line_process import LineProcess
from bench.kit.results import arguments, save
from energyws.protocol.frame_scanner import MAX_FRAGMENTS
from energyws.testing import token
from energyws.testing.certificates import write_pair

EXPECTED: Final = Path(__file__).with_name("expected.json")


class Run(NamedTuple):
    cases: list[str]
    settings: dict[str, Any]
    tls: bool = False
    fragments: int = MAX_FRAGMENTS


_PLAIN: Final = [f"{number}.*" for number in (*range(1, 8), 10)]
_LARGEST: Final = {"max_message_bytes": 512 * 1024}
_DEFLATE: Final = {
    "compression": True,
    "max_message_bytes": 256 * 1024,
    "messages_per_second": 1e6,
}
RUNS: Final = {
    "ws": Run(_PLAIN, _LARGEST),
    "wss": Run(_PLAIN, _LARGEST, tls=True),
    "deflate": Run(["12.*", "13.*"], _DEFLATE, fragments=10_000),
    "deflate-wss": Run(["12.*", "13.*"], _DEFLATE, tls=True, fragments=10_000),
    "limits": Run(["9.1.1", "9.2.1"], {}),
}


def measure(run: Run) -> Table:
    """Autobahn's verdicts about one run."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = dict(run.settings)
        if run.tls:
            settings["tls"] = write_pair(directory)
        options = orjson.dumps({"settings": settings, "fragments": run.fragments}).decode()
        command = [sys.executable, "-m", "bench.autobahn.echo", options]
        echo = stack.enter_context(LineProcess(command))
        url = f"{'wss' if run.tls else 'ws'}://127.0.0.1:{echo.answer()}/ws/energy?token={token()}"
        return table(wstest.run(url, run.cases, directory))


def main() -> int:
    parser = arguments(__doc__, prog="bench.autobahn")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=", ".join(RUNS))
    parser.add_argument("--if-possible", action="store_true", help="do nothing without Python 2.7")
    parser.add_argument("--accept", action="store_true", help="write the committed table anew")
    options = parser.parse_args()
    if unknown := [name for name in options.runs if name not in RUNS]:
        parser.error(f"no run {unknown[0]!r}: there are {', '.join(RUNS)}")
    try:
        wstest.program()
    except wstest.NoPython2:
        print("Autobahn needs Python 2.7, which is not here: pyenv install 2.7.18")
        return 0 if options.if_possible else 2
    expected: dict[str, Table] = orjson.loads(EXPECTED.read_bytes()) if EXPECTED.exists() else {}
    found: dict[str, Table] = {}
    wrong = 0
    for name in options.runs or RUNS:
        began = time.monotonic()
        found[name] = measure(RUNS[name])
        different = differences(expected.get(name), found[name])
        wrong += len(different)
        print(f"{name}: {found[name]['cases']} cases in {time.monotonic() - began:.0f} s")
        for key in ("behavior", "close", "codes"):
            print(f"  {key}: {', '.join(f'{n} {what}' for what, n in found[name][key].items())}")
        for line in different:
            print(f"  DIFFERENT: {line}")
        sys.stdout.flush()
    save(options.out, found)
    if options.accept:
        EXPECTED.write_bytes(orjson.dumps(expected | found, option=orjson.OPT_INDENT_2) + b"\n")
        return 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
