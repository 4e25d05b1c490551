"""The numbers and codes of the protocol that the client judges; docs/protocol.md has them all.

energyws.errors has them, too, for the service. The client knows nothing of the service's code.
"""

from __future__ import annotations

from typing import Final

# RFC 6455 section 7.4.1; abnormal: the connection ended without a close frame.
NORMAL: Final = 1000
ABNORMAL: Final = 1006
TOO_BIG: Final = 1009
# Close codes and HTTP statuses that only another token can avoid.
UNAUTHORIZED: Final = frozenset({401, 4401})
# Close codes and HTTP statuses that every further attempt would get.
FATAL: Final = frozenset({1002, 1007, TOO_BIG, 403, 404, 4403})
BAD_MESSAGE: Final = "BAD_MESSAGE"
KEYS_UNAVAILABLE: Final = "KEYS_UNAVAILABLE"
STREAM_UNAVAILABLE: Final = "STREAM_UNAVAILABLE"
TOKEN_EXPIRING: Final = "TOKEN_EXPIRING"  # noqa: S105 -- a code of the protocol
# The client's own: the service does not confirm the keys, and would send other records as well.
NOT_FILTERED: Final = "NOT_FILTERED"
# The subscription cannot work on any connection.
FATAL_ERRORS: Final = frozenset(
    {
        *("UNKNOWN_STREAM", "FORBIDDEN_STREAM", BAD_MESSAGE),
        *("FORBIDDEN_KEY", "NOT_KEYED", "TOO_MANY_KEYS", "SNAPSHOT_UNAVAILABLE", NOT_FILTERED),
    }
)
