"""The seccomp profile with io_uring, and the files in config/ that name it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import yaml

from tests.deploy.files import BASE, COMPOSE, CONFIG, document
from tests.docs.shell import bash
from tests.docs.snippets import snippets
from tests.web.agent import program

ALLOW: Final = "SCMP_ACT_ALLOW"
IO_URING: Final = {"io_uring_setup", "io_uring_enter"}
# Docker's and Podman's have this form, with more of everything.
DEFAULT: Final = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "sendto"], "action": ALLOW},
        {"names": ["ptrace"], "action": ALLOW, "includes": {"minKernel": "4.8"}},
        {"names": ["arch_prctl"], "action": ALLOW, "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["cacheflush"], "action": ALLOW, "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["mount", "unshare"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {
            "names": ["clone"],
            "action": ALLOW,
            "args": [{"index": 1, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
            "includes": {"arches": ["s390", "s390x"]},
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
    ],
}
PROFILE: Final = "energyws-seccomp.json"
OF_A_POD: Final = "energyws-seccomp-pod.json"
# What containerd reads of a profile: LinuxSeccomp and LinuxSyscall of the OCI runtime-spec.
READ: Final = {"defaultAction", "defaultErrnoRet", "syscalls"}
READ_OF_A_RULE: Final = {"names", "action", "errnoRet", "args"}


def test_profile_with_io_uring(tmp_path: Path) -> None:
    program("jq")
    (tmp_path / "default.json").write_text(json.dumps(DEFAULT))
    for block in snippets(test_profile_with_io_uring):
        done = bash(block.text, tmp_path)
        assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / PROFILE).read_text())
    added = made["syscalls"].pop()
    # Without conditions, and nothing else has changed.
    assert added.keys() == {"names", "action"}
    assert (set(added["names"]), added["action"]) == (IO_URING, ALLOW)
    assert made == DEFAULT

    of_a_pod = json.loads((tmp_path / OF_A_POD).read_text())
    assert of_a_pod.keys() == READ
    assert all(rule.keys() <= READ_OF_A_RULE for rule in of_a_pod["syscalls"])
    assert [(rule["names"], rule["action"]) for rule in of_a_pod["syscalls"]] == [
        (["read", "sendto"], ALLOW),
        (["ptrace"], ALLOW),
        (["arch_prctl"], ALLOW),
        (["cacheflush"], ALLOW),
        (["clone3"], "SCMP_ACT_ERRNO"),
        (["io_uring_setup", "io_uring_enter"], ALLOW),
    ]


def test_compose_shows_the_line_that_takes_the_profile() -> None:
    text = COMPOSE.read_text()
    changed = yaml.safe_load(text.replace("#- seccomp=", "- seccomp="))
    options = changed["services"]["energyws"]["security_opt"]
    assert options == ["no-new-privileges:true", f"seccomp={PROFILE}"]
    assert document(COMPOSE)["services"]["energyws"]["security_opt"] == options[:1]


def test_component_replaces_what_the_base_has() -> None:
    (patch,) = document(CONFIG / "kubernetes" / "io-uring" / "kustomization.yaml")["patches"]
    (operation,) = yaml.safe_load(patch["patch"])
    deployment = document(BASE / "deployment.yaml")
    assert patch["target"] == {
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    *parents, last = operation["path"].strip("/").split("/")
    place = deployment
    for part in parents:
        place = place[part]
    assert place[last] == {"type": "RuntimeDefault"}
    assert operation["value"] == {"type": "Localhost", "localhostProfile": f"profiles/{OF_A_POD}"}


def test_the_overlay_names_the_component() -> None:
    overlay = BASE.parent / "overlays" / "production"
    (named,) = re.findall(r"#- (\S*io-uring)", (overlay / "kustomization.yaml").read_text())
    assert (overlay / named / "kustomization.yaml").is_file()
