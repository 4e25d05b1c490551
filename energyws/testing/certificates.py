"""Self-signed certificates for 127.0.0.1."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def write_pair(directory: Path, *days: float, name: str = "tls") -> dict[str, str]:
    """`server.tls` with a new certificate and its key (ECDSA P-256), as NAME.crt and NAME.key.

    days: until it expires; by default 1. With several, the file is a chain: the first is for the
    server's certificate, the others for those of its issuers.
    """
    chain = b""
    for number, lifetime in enumerate(days or (1,)):
        key = ec.generate_private_key(ec.SECP256R1())
        if not number:
            own = key
        serial = x509.random_serial_number()
        # Each with a name of its own: in a bundle, OpenSSL finds a certificate by its subject.
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test {serial:x}")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=lifetime))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        chain += certificate.public_bytes(Encoding.PEM)
    cert, secret = directory / f"{name}.crt", directory / f"{name}.key"
    cert.write_bytes(chain)
    secret.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"cert": str(cert), "key": str(secret)}


def trusting(certificate: str | Path) -> ssl.SSLContext:
    """A client's context that trusts this certificate only."""
    return ssl.create_default_context(cafile=str(certificate))
