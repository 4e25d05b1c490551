"""The types of settings, with their bounds: units stand in the names of the settings."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Ge, Gt, Le, MinLen

Port = Annotated[int, Ge(0), Le(65535)]
PositiveSeconds = Annotated[float, Gt(0)]
Seconds = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Text = Annotated[str, MinLen(1)]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
MAX_WORKERS: Final = 64
# The largest record that memory, bus, log, compression and the project's own clients can handle.
MAX_RECORD_BYTES: Final = 16 * MIB
# Read by pydantic off each class; a plain dict, so that this module does not import pydantic.
STRICT: Final = {"extra": "forbid", "allow_inf_nan": False}
