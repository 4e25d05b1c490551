"""The operator's deny list, checked and left in the run's directory for the workers.

They do not read the operator's file themselves: a worker that starts while that is missing or half
written must not forget who was denied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from energyws.auth.denied import FILE_NAME, MAX_DENIED_BYTES, Entry, dump, parse
from energyws.control.reload.file_watch import WatchedFiles
from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.process.counters import RELOAD_REFUSALS
from energyws.settings import Settings

# Between two looks at the file.
LOOK_SECONDS: Final = 1.0
# Between two attempts to make a copy that is gone: each that fails is a line of the log.
RETRY_SECONDS: Final = 30.0
_MOST_SHOWN: Final = 10

_log = Log("config")


class DenyList:
    """directory: that of the run. row: counts files that were refused, or refused in part.

    A change of the file is no reload, so that whatever keeps settings from being reloaded does not
    keep a stolen token valid.
    """

    def __init__(self, directory: Path, row: Row) -> None:
        self._path = directory / FILE_NAME
        self._row = row
        self._file = WatchedFiles([])
        self._look_at = 0.0
        self._retry_at = 0.0

    def look(self, settings: Settings, now: float) -> None:
        """Publish the file if it has changed, or if its copy is gone. To be called often.

        now: monotonic seconds.
        """
        if settings.auth.denied_file is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        gone = now >= self._retry_at and not self._path.exists()
        if gone:
            self._retry_at = now + RETRY_SECONDS
        if self._file.changed() or gone:
            self.publish(settings)

    def publish(self, settings: Settings) -> None:
        """Let workers have what is in auth.denied_file; they notice.

        While that has lines that cannot be used, or cannot be read, what was denied before stays
        denied, too: a damaged file must let nobody in.
        """
        source = settings.auth.denied_file
        # Before it is read, so that a change meanwhile is noticed afterwards.
        self._file.follow(filter(None, [source]))
        try:
            if source is None:
                self._path.unlink(missing_ok=True)
            else:
                self._copy(source)
        except OSError as error:
            # Workers that find no copy read the file itself.
            self._count()
            _log.error("deny list not read: earlier entries stay", reason=error.strerror)

    def _copy(self, source: str) -> None:
        with open(source, "rb") as file:
            data = file.read(MAX_DENIED_BYTES + 1)
        if len(data) > MAX_DENIED_BYTES:
            raise OSError(0, f"it has more than {MAX_DENIED_BYTES} bytes")
        entries, bad = parse(data)
        if bad:
            self._count()
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

    def _count(self) -> None:
        self._row.add(Field.RELOADS_REFUSED)
        RELOAD_REFUSALS.count(self._row, "deny_list")
