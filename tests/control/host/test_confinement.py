"""What a process and its children cannot do any more; each test in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from typing import Any

import pytest

from energyws.control.host import confinement
from energyws.errors import BootError

SCRIPT = """
import ctypes, json, resource, subprocess, sys
from energyws.control.host.confinement import confine

hard = int(sys.argv[2])
if hard >= 0:
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
confine(core_dumps=sys.argv[1] == "yes")
PR_GET_NO_NEW_PRIVS = 39
look = "import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"
child = subprocess.run([sys.executable, "-c", look], stdout=subprocess.PIPE, check=True)
json.dump({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "no_new_privs": ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
    "child": int(child.stdout),
}, sys.stdout)
"""


def confined(core_dumps: str, hard: int = -1) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, core_dumps, str(hard)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def test_no_dumps_and_no_new_rights() -> None:
    found = confined("no")
    assert found["core"][0] <= 1
    # Not to be raised again.
    assert found["core"][0] == found["core"][1]
    assert (found["no_new_privs"], found["child"]) == (1, 1)


def test_a_lower_limit_stays() -> None:
    assert confined("no", 0)["core"] == [0, 0]


def test_dumps_that_are_wanted() -> None:
    found = confined("yes")
    assert tuple(found["core"]) == resource.getrlimit(resource.RLIMIT_CORE)
    assert (found["no_new_privs"], found["child"]) == (1, 1)


def test_refusal_of_the_kernel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def prctl(self, *_: object) -> int:
            ctypes.set_errno(1)
            return -1

    monkeypatch.setattr(confinement.ctypes, "CDLL", lambda *_, **__: Refusing())
    with pytest.raises(BootError, match=f"cannot set no_new_privs: {os.strerror(1)}: allow prctl"):
        confinement.confine(core_dumps=True)
