"""Certificates for tests, each with a key of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def write_pair(directory: Path, *days: float) -> dict[str, str]:
    """`server.tls` for 127.0.0.1: a certificate that expires after `days`, and a chain of others.

    The first of `days` is the server's; what follows stands for its issuers.
    """
    chain = b""
    for number, each in enumerate(days):
        key = ec.generate_private_key(ec.SECP256R1())
        if not number:
            own = key
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test {number}")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=each))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        chain += certificate.public_bytes(Encoding.PEM)
    cert, secret = directory / "tls.crt", directory / "tls.key"
    cert.write_bytes(chain)
    secret.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"cert": str(cert), "key": str(secret)}
