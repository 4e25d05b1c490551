"""A supervisor whose children are the scripts beside this one.

host.py SETTINGS.json NAME=SCRIPT …      "*" names all other children
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from energyws import log
from energyws.control.config import parse
from energyws.control.spawn import ChildSpec
from energyws.control.supervisor import serve

if __name__ == "__main__":
    settings = parse(json.dumps(json.loads(sys.argv[1])), "test", {})
    scripts = dict(argument.split("=") for argument in sys.argv[2:])

    def command(spec: ChildSpec) -> list[str]:
        script = scripts.get(spec.name, scripts["*"])
        return [sys.executable, str(Path(__file__).with_name(f"{script}.py"))]

    log.configure(settings.log, "supervisor")
    sys.exit(serve(settings, lambda: settings, command))
