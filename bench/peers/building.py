"""Builds the peers that are not in Python, outside the source tree, and gives their commands."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.kit.build import cache
from bench.peers.catalogue import HERE, Peer


def command(peer: Peer) -> list[str]:
    """The command that runs a peer, which is built first if necessary.

    Raises CalledProcessError if the build fails.
    """
    match peer.kind:
        case "python":
            program = [sys.executable, "-m", f"bench.peers.{peer.name}_server"]
        case "rust":
            program = [str(_rust())]
        case "node":
            program = ["node", str(_npm("node") / "server.js")]
        case "bun":
            made = _npm("bun")
            program = [str(made / "node_modules" / ".bin" / "bun"), str(made / "server.js")]
        case "java":
            program = ["java", "-cp", f"{_java()}/*", "Peer"]
        case "go":
            program = [str(_go())]
    return [*program, *peer.arguments]


def toolchain(peer: Peer) -> dict[str, str]:
    command = {
        "rust": ["rustc", "--version"],
        "node": ["node", "--version"],
        "go": ["go", "env", "GOVERSION"],
        "java": ["java", "--version"],
    }.get(peer.kind)
    if command is None:
        return {}
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    line = output.splitlines()[0]
    for prefix in ("rustc ", "openjdk ", "go", "v"):
        line = line.removeprefix(prefix)
    return {peer.kind: line}


def _rust() -> Path:
    # In a copy, since cargo writes its lock file there; cargo rebuilds only what has changed.
    crate = cache() / "peers-rust"
    shutil.copytree(HERE / "rust", crate, dirs_exist_ok=True)
    subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=crate, check=True)
    return crate / "target" / "release" / "peer"


def _go() -> Path:
    source = HERE / "go"

    def fill(fresh: Path) -> None:
        subprocess.run(["go", "build", "-o", str(fresh / "peer"), "."], cwd=source, check=True)

    # By a hash of the sources: a build from another tree must not replace this one.
    return _kept("peers-go", list(source.glob("*.*")), fill) / "peer"


def _npm(name: str) -> Path:
    """The directory of a server and its packages, which node looks up beside the script."""
    source = HERE / name

    def fill(fresh: Path) -> None:
        for file in ("package.json", "package-lock.json", "server.js"):
            shutil.copy(source / file, fresh)
        install = ["npm", "ci", "--silent", "--no-fund", "--no-audit"]
        subprocess.run(install, cwd=fresh, check=True)

    return _kept(f"peers-{name}", list(source.glob("*.js*")), fill)


def _java() -> Path:
    """The directory of the server's jar and its dependencies."""
    source = HERE / "java"

    def fill(fresh: Path) -> None:
        with tempfile.TemporaryDirectory(dir=cache()) as directory:
            # Maven writes its output beside its pom.
            work = shutil.copytree(source, Path(directory, "java"))
            copy = ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
            subprocess.run(["mvn", "-q", "-B", "package", *copy], cwd=work, check=True)
            shutil.copy(work / "target" / "peer-1.jar", fresh)

    return _kept("peers-java", [source / "pom.xml", *source.glob("src/**/*.java")], fill)


def _kept(name: str, files: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """A cached directory, filled anew whenever these files change."""
    state = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:16]
    made = cache() / f"{name}-{state}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as directory:
            fresh = Path(directory, name)
            fresh.mkdir()
            fill(fresh)
            fresh.rename(made)
    return made
