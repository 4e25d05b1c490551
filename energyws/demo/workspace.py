"""The demo's directory: its token, its configuration and, for a screen, its log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def workspace(
    say: Callable[[str], None], *, logging_to_file: bool
) -> Iterator[tuple[Path, IO[Any] | None]]:
    """A directory that only this user can read, and the log in it; removed with the block.

    Without `logging_to_file` there is no log (None). If the block fails, the log is kept, alone,
    and `say` tells where it is; that the user ends the demo is no failure.
    """
    directory = Path(tempfile.mkdtemp(prefix="energyws-demo-"))
    path = directory / "demo.log"
    failed = True
    try:
        if logging_to_file:
            with open(path, "wb", buffering=0) as log, _logging_to(path):
                yield directory, log
        else:
            yield directory, None
        failed = False
    except asyncio.CancelledError:
        failed = False
        raise
    finally:
        if failed and path.exists():
            for other in directory.iterdir():
                if other != path:
                    other.unlink()
            say(f"the log of this demo: {path}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keep what libraries log in this process off the screen."""
    root = logging.getLogger()
    handler = logging.FileHandler(path)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
