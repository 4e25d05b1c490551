"""The cost of checking a record, for good and for bad ones.

    python -m bench.reading                  microseconds per record, the minimum of several rounds
    python -m bench.reading --against DIR    alternating with DIR, another working tree

Records that the parser refuses are checked a second time; this must not slow down good records.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from energyws.demo.meter import Meter
from energyws.stream import record

ROUNDS: Final = 15
ROUND_BYTES: Final = 2_000_000
LIMIT: Final = 16 << 20


def samples() -> dict[str, bytes]:
    """Records by name; the names of bad ones start with "bad"."""
    meter = Meter(1).record(1_764_706_667_888_640_830)
    text = b'"' + b"x" * 500 + b'"'
    return {
        "good, a meter's": meter,
        "good, 271 bytes": b'{"fields":{"total":956},"text":"' + b"y" * 236 + b'"}',
        "good, 1 MB of numbers": b'{"a":[' + b"123456789.5," * 80_000 + b"1]}",
        "surrogate alone": meter[:-1] + b',"name":"kitchen \\ud83d"}',
        "number beyond a double": meter[:-1] + b',"n":1e400}',
        "bad: text": b"hello" * 200,
        "bad: cut off": meter[:-1],
        "bad: surrogate, then cut off": b'{"name":"\\ud83d",' + meter[1:-1],
        "bad: 1 MB of surrogates, cut off": b'{"a":"' + b"\\ud83d" * 170_000,
        "bad: 1 MB of digits, cut off": b'{"a":' + b"9" * 1_000_000,
        "bad: 1 MB, a surrogate at its end": b'{"a":[' + (text + b",") * 2_000 + b'"\\ud83d"',
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIR")
    options = parser.parse_args()
    rivals = {"now": _decode(record)}
    if options.against is not None:
        rivals["then"] = _decode(_load(options.against / "energyws" / "stream" / "record.py"))
    for name, value in samples().items():
        least = dict.fromkeys(rivals, float("inf"))
        for _ in range(ROUNDS):
            for rival, decode in rivals.items():
                least[rival] = min(least[rival], _microseconds(decode, value))
        line = "".join(f"{rival} {each:11.2f} us  " for rival, each in least.items())
        ratio = f"{least['now'] / least['then']:.3f}" if "then" in least else ""
        print(f"{name:36s}{len(value):9d} bytes  {line}{ratio}")
    return 0


def _decode(module: ModuleType) -> Callable[[bytes], object]:
    def decode(value: bytes) -> object:
        try:
            return module.decode(value, max_bytes=LIMIT)
        except module.BadRecord:
            return None

    return decode


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_then", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _microseconds(decode: Callable[[bytes], object], value: bytes) -> float:
    turns = max(1, ROUND_BYTES // len(value))
    began = time.perf_counter()
    for _ in range(turns):
        decode(value)
    return (time.perf_counter() - began) / turns * 1e6


if __name__ == "__main__":
    sys.exit(main())
