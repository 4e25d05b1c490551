"""The operator's deny list, checked and left in the run's directory for the workers.

They do not read the operator's file themselves: a worker that starts while that is missing or half
written must not forget who was denied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from energyws.auth.denied import FILE_NAME, Entry, dump, parse
from energyws.logs.events import Log
from energyws.settings import Settings

_MOST_SHOWN: Final = 10

_log = Log("config")


class DenyList:
    """directory: that of the run."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def publish(self, settings: Settings) -> None:
        """Let workers that read it from now on have what is in auth.denied_file.

        While that has lines that cannot be used, or cannot be read, what was denied before stays
        denied, too: a damaged file must let nobody in.
        """
        source = settings.auth.denied_file
        try:
            if source is None:
                self._path.unlink(missing_ok=True)
            else:
                self._copy(source)
        except OSError as error:
            # Workers that find no copy read the file itself.
            _log.error("deny list not read: earlier entries stay", reason=error.strerror)

    def _copy(self, source: str) -> None:
        entries, bad = parse(Path(source).read_bytes())
        if bad:
            _log.error(
                "deny list has lines that cannot be used: earlier entries stay",
                file=source,
                count=len(bad),
                lines=",".join(str(each.number) for each in bad[:_MOST_SHOWN]),
                reason=bad[0].reason,
            )
            entries = list(dict.fromkeys([*self._earlier(), *entries]))
        # A cleaner of temporary files may have removed the directory.
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(dump(entries))
        new.replace(self._path)
        _log.info("deny list read", file=source, entries=len(entries))

    def _earlier(self) -> list[Entry]:
        try:
            return parse(self._path.read_bytes())[0]
        except FileNotFoundError:
            return []
