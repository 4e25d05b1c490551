"""Times that clients write (RFC 3339 section 5.6)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# datetime would accept much more.
_FORM: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def milliseconds(text: str) -> int:
    """Since the Unix epoch; an earlier time counts as the epoch. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError("not a time as in RFC 3339")
    # Rounded down: Kafka cuts a record's time to milliseconds, so a record of the same millisecond
    # may be later.
    since = datetime.fromisoformat(text.upper()) - _UNIX_EPOCH
    return max(0, since // timedelta(milliseconds=1))
