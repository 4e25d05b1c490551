"""Makes the peers that are no Python, outside of the source tree, and gives their command lines."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.build import cache
from bench.peers.catalogue import HERE, Peer


def command(peer: Peer) -> list[str]:
    """The command that runs a peer, made first where it has to be.

    Raises CalledProcessError if that fails.
    """
    match peer.kind:
        case "python":
            program = [sys.executable, "-m", f"bench.peers.{peer.name}_server"]
        case "rust":
            program = [str(_rust())]
        case "node":
            program = ["node", str(_node())]
        case "go":
            program = [str(_go())]
    return [*program, *peer.arguments]


def toolchain(peer: Peer) -> dict[str, str]:
    """The version of the compiler or the runtime, as it tells it."""
    ask = {
        "rust": ["rustc", "--version"],
        "node": ["node", "--version"],
        "go": ["go", "env", "GOVERSION"],
    }.get(peer.kind)
    if ask is None:
        return {}
    told = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    return {peer.kind: told.removeprefix("rustc ").removeprefix("go").removeprefix("v")}


def _rust() -> Path:
    # cargo and go know themselves what is up to date.
    target = cache() / "peers-rust"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked"],
        cwd=HERE / "rust",
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
    return target / "release" / "peer"


def _go() -> Path:
    made = cache() / "peers-go"
    subprocess.run(["go", "build", "-o", str(made), "."], cwd=HERE / "go", check=True)
    return made


def _node() -> Path:
    """The server beside its packages: Node looks for them where a script is."""
    files = [HERE / "node" / name for name in ("package.json", "package-lock.json", "server.js")]
    state = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    made = cache() / f"peers-node-{state}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as directory:
            fresh = Path(directory, "node")
            fresh.mkdir()
            for file in files:
                shutil.copy(file, fresh)
            subprocess.run(
                ["npm", "ci", "--silent", "--no-fund", "--no-audit"], cwd=fresh, check=True
            )
            fresh.rename(made)
    return made / "server.js"
