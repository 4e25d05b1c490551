"""PyJWT's JWS (RFC 7515), with the work for a token of a stranger bounded.

PyJWT looks at each character of a token in Python: at 8 KB that takes four times as long as all
the rest of a refusal.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import jwt

# A header has a few values; one with certificates (`x5c`) is long, and has few all the same. With
# this many JSON takes no longer than the rest.
MAX_HEADER_VALUES: Final = 64


class Jws(jwt.PyJWS):
    """Raises jwt.DecodeError, as PyJWS does."""

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        """One part of a token. Padding, which PyJWT accepts, is refused (section 2)."""
        try:
            decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
        except binascii.Error:
            raise jwt.DecodeError(f"Invalid {name} padding") from None
        # Other characters, or bits that count for nothing, would give one token several texts.
        if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
            raise jwt.DecodeError(f"Invalid {name} padding")
        if name == "header" and _values(decoded) > MAX_HEADER_VALUES:
            raise jwt.DecodeError("Invalid header: too many values")
        return decoded


def _values(text: bytes) -> int:
    """At least as many values as the JSON has, strings with such characters aside."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")
