"""A supervisor whose children are the scripts beside this one.

host.py SETTINGS.json HOST.json NAME=SCRIPT …      "*" names all other children

HOST.json can have: rows, of the board; act_seconds, for which the admin port waits for the loop;
block_seconds, for which a reload keeps the loop from everything else; broken, a method of the
supervisor that fails; streams, the number of them to configure; reload, sections of the settings
that a reload finds changed.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from energyws.control import running, supervisor
from energyws.control.admin import in_loop
from energyws.control.children import children
from energyws.control.children.spawn import ChildSpec
from energyws.control.config.load import parse
from energyws.control.policy.fleet import Fleet
from energyws.logs import writer
from energyws.settings import Settings


def broken(*_: object) -> None:
    raise RuntimeError("broken on purpose")


if __name__ == "__main__":
    sections = json.loads(sys.argv[1])
    host: dict[str, Any] = json.loads(sys.argv[2])
    if "streams" in host:
        sections["streams"] = {f"s{n}": {"topic": f"{n:t>200}"} for n in range(host["streams"])}
        del sections["kafka"]["topic"]
    settings = parse(json.dumps(sections), "test", {})
    scripts = dict(argument.split("=") for argument in sys.argv[3:])
    if "rows" in host:
        children.ROWS = host["rows"]  # type: ignore[misc]
        children.SUPERVISOR_ROW = running.SUPERVISOR_ROW = host["rows"] - 1  # type: ignore[misc]
        supervisor.Fleet = partial(Fleet, limit=host["rows"] - 1)  # type: ignore[assignment,misc]
    if "act_seconds" in host:
        in_loop.ACT_SECONDS = host["act_seconds"]  # type: ignore[misc]
    if "broken" in host:
        setattr(supervisor.Supervisor, host["broken"], broken)

    def command(spec: ChildSpec) -> list[str]:
        script = scripts.get(spec.name, scripts["*"])
        return [sys.executable, str(Path(__file__).with_name(f"{script}.py"))]

    def load() -> Settings:
        time.sleep(host.get("block_seconds", 0))
        changed = {
            name: {**sections.get(name, {}), **values}
            for name, values in host.get("reload", {}).items()
        }
        return parse(json.dumps({**sections, **changed}), "test", {})

    writer.configure(settings.log, "supervisor")
    sys.exit(supervisor.serve(settings, load, command))
