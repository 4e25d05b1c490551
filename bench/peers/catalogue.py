"""The peers: requirements and versions."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

HERE: Final = Path(__file__).parent
# Centrifuge's JSON protocol, with the record always at the same position.
_PUSH: Final = '{"push":{"channel":"energy","pub":{"data":'


@dataclass(frozen=True)
class Peer:
    """One server.

    packages: those whose versions are reported. arguments: those before certificate and key.
    load: options of bench.kit.load.Load for this server.
    """

    name: str
    kind: Literal["python", "rust", "node", "bun", "go", "java"]
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    load: Mapping[str, Any] = field(default_factory=dict)


_CENTRIFUGE: Final = ("github.com/centrifugal/centrifuge",)
_CENTRIFUGE_LOAD: Final[dict[str, Any]] = {
    "first": '{"id":1,"connect":{}}',
    "prefix": len(_PUSH),
    "suffix": len("}}}"),
}
_AXUM: Final = ("axum", "axum-server", "tokio", "tokio-tungstenite", "rustls")

PEERS: Final = (
    Peer("axum", "rust", _AXUM, ("threads",)),
    Peer("axum-one-thread", "rust", _AXUM, ("thread",)),
    Peer("websockets", "python", ("websockets", "uvloop")),
    Peer("ws", "node", ("ws",)),
    Peer("centrifuge", "go", _CENTRIFUGE, ("centrifuge", "0"), _CENTRIFUGE_LOAD),
    Peer("centrifuge-delayed", "go", _CENTRIFUGE, ("centrifuge", "10"), _CENTRIFUGE_LOAD),
    Peer("aiohttp", "python", ("aiohttp", "uvloop")),
    Peer("starlette", "python", ("starlette", "uvicorn", "websockets", "httptools", "uvloop")),
    Peer("picows", "python", ("picows", "uvloop")),
    Peer("gorilla", "go", ("github.com/gorilla/websocket",), ("gorilla",)),
    Peer("gws", "go", ("github.com/lxzan/gws",), ("gws",)),
    Peer("bun", "bun", ("bun",)),
    Peer("jetty", "java", ("jetty-websocket-jetty-server",)),
)
_PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "python": (),
    "rust": ("cargo",),
    "node": ("node", "npm"),
    # Its installer, which only links the binary that npm installed, is a Node script.
    "bun": ("node", "npm"),
    "go": ("go",),
    "java": ("java", "mvn"),
}


def missing(peer: Peer) -> str | None:
    """Why a peer cannot run here; None if it can."""
    absent = [program for program in _PROGRAMS[peer.kind] if shutil.which(program) is None]
    if absent:
        return f"{' and '.join(absent)} not found on PATH"
    if peer.kind == "python":
        absent = [name for name in peer.packages if importlib.util.find_spec(name) is None]
        if absent:
            return f"{', '.join(absent)} not installed: pip install -e '.[bench]'"
    return None


def versions(peer: Peer) -> dict[str, str]:
    """The versions of a peer's packages, from the files that pin them."""
    if peer.kind == "python":
        return {name: version(name) for name in peer.packages}
    if peer.kind == "rust":
        pinned = tomllib.loads((HERE / "rust" / "Cargo.toml").read_text())["dependencies"]
        found = {
            name: (crate if isinstance(crate, str) else crate["version"]).removeprefix("=")
            for name, crate in pinned.items()
        }
    elif peer.kind in ("node", "bun"):
        found = json.loads((HERE / peer.kind / "package.json").read_text())["dependencies"]
    elif peer.kind == "java":
        pom = (HERE / "java" / "pom.xml").read_text()
        pairs = r"<artifactId>(\S+)</artifactId>\s*<version>(\S+)</version>"
        found = dict(re.findall(pairs, pom))
    else:
        pinned = re.findall(r"^\s(\S+) v(\S+)", (HERE / "go" / "go.mod").read_text(), re.MULTILINE)
        found = dict(pinned)
    return {name.removeprefix("github.com/"): found[name] for name in peer.packages}
