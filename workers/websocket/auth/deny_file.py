"""Reads the deny list: the supervisor's copy for the workers, or else the operator's own file."""

from __future__ import annotations

from pathlib import Path

from energyws.auth.denied import FILE_NAME, Denied, parse
from energyws.errors import BootError
from energyws.settings import Auth


def read(directory: Path, settings: Auth) -> Denied:
    """The deny list; raises BootError if there should be one that cannot be read.

    directory: where the supervisor leaves it. A cleaner of temporary files may have removed it from
    there.
    """
    if settings.denied_file is None:
        return Denied()
    for path in (directory / FILE_NAME, Path(settings.denied_file)):
        try:
            return Denied(parse(path.read_bytes())[0])
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BootError(f"auth.denied_file: cannot read {path}: {error.strerror}") from None
    raise BootError(f"auth.denied_file: there is no file {settings.denied_file}")
