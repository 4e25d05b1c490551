"""The key pairs of two issuers and of an attacker."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

from energyws.auth.jwks import parse_jwks
from tests.auth.tokens import ALICE, BOB, OCT, World, jwk, jwks


@pytest.fixture(scope="session")
def world() -> World:
    rsa, bobs, mallorys = (generate_rsa(65537, 2048) for _ in range(3))
    ec, ed = generate_ec(SECP256R1()), Ed25519PrivateKey.generate()
    alices = jwks(
        OCT,
        jwk(rsa.public_key(), kid="rsa", use="sig", alg="RS256", key_ops=["verify"]),
        jwk(ec.public_key(), kid="ec"),
        jwk(ed.public_key(), kid="ed"),
    )
    keys = {ALICE: parse_jwks(alices), BOB: parse_jwks(jwks(jwk(bobs.public_key(), kid="bobs")))}
    return World(rsa, ec, ed, bobs, mallorys, keys)
