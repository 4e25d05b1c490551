"""When the certificate that clients are shown expires."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509

from energyws.settings import Tls

UNKNOWN: Final = 0


def expires_at(tls: Tls | None) -> int:
    """The earliest `notAfter` in the chain (RFC 5280 section 4.1.2.5), in Unix seconds.

    UNKNOWN without TLS, and for a chain that OpenSSL takes and this parser does not.
    """
    if tls is None:
        return UNKNOWN
    try:
        chain = x509.load_pem_x509_certificates(Path(tls.cert).read_bytes())
    except (OSError, ValueError):
        return UNKNOWN
    return min(int(each.not_valid_after_utc.timestamp()) for each in chain)
