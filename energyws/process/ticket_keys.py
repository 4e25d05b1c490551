"""The keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1).

The supervisor makes them and gives them to all workers, so that a client can resume its TLS session
with any of them, also after a restart of workers.
"""

from __future__ import annotations

import secrets
from typing import Final

# A name of 16 bytes, and 32 bytes each for HMAC and AES (OpenSSL, ssl/ssl_local.h).
KEYS_BYTES: Final = 80
# An attacker with the keys can decrypt the TLS 1.2 connections of this time. OpenSSL knows only one
# set of keys, so a client whose ticket is older than the keys has a full handshake: with 12 hours
# most clients of a working day resume.
LIFE_SECONDS: Final = 12 * 3600.0


class TicketKeys:
    """now: monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._renew(now)

    def renew(self, now: float) -> bool:
        """Make new keys if it is time; whether there are new ones. To be called often."""
        due = now >= self._due
        if due:
            self._renew(now)
        return due

    def _renew(self, now: float) -> None:
        self.current = secrets.token_bytes(KEYS_BYTES)
        self._due = now + LIFE_SECONDS
