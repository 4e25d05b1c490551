"""Positions in the Python and the JavaScript client: what a client knows after a message."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

import energyws.web
from energyws.client.position import BadPosition, parse

_SOURCE: Final = Path(energyws.web.__file__).with_name("energyws.js")
# The client does not export it.
_PROGRAM: Final = """
import { readFileSync } from 'node:fs';
const source = readFileSync(process.argv[1], 'utf8') + '\\nexport { merge };';
const { merge } = await import('data:text/javascript,' + encodeURIComponent(source));
const pairs = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(pairs.map(([known, text]) => merge(known, text))));
"""


def differences(pairs: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Where the two clients differ, by index. pairs: the position known, and one that comes."""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", _PROGRAM, str(_SOURCE)],
        input=orjson.dumps(pairs),
        capture_output=True,
        check=True,
    )
    merged: list[str] = orjson.loads(done.stdout)
    wrong = {}
    for at, ((known, text), theirs) in enumerate(zip(pairs, merged, strict=True)):
        if (ours := _merged(known, text)) != theirs:
            wrong[at] = f"{ours!r} in Python, {theirs!r} in JavaScript"
    return wrong


def _merged(known: str, text: str) -> str:
    """What the JavaScript client does, which keeps what it cannot read: a service of ours sends
    nothing else than positions, and the Python client would end with an error.
    """
    try:
        new = parse(text)
    except BadPosition:
        return known
    try:
        return str(parse(known).merge(new))
    except BadPosition:
        return text
