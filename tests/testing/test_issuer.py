from __future__ import annotations

import json
import urllib.error
import urllib.request

import jwt
import pytest

from energyws.testing import Issuer


def keys(issuer: Issuer) -> list[dict[str, str]]:
    with urllib.request.urlopen(issuer.url, timeout=5) as response:
        found: list[dict[str, str]] = json.load(response)["keys"]
    return found


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_token_is_signed_with_the_published_key(algorithm: str) -> None:
    with Issuer("one", algorithm) as issuer:
        (key,) = keys(issuer)
        token = issuer.token(sub="somebody")
        assert jwt.get_unverified_header(token)["kid"] == key["kid"]
        claims = jwt.decode(token, jwt.PyJWK(key, algorithm).key, algorithms=[algorithm])
        assert (claims["sub"], claims["iss"]) == ("somebody", issuer.name)
        assert issuer.fetches == 1


def test_rotation_publishes_only_the_new_key() -> None:
    with Issuer("one", "ES256") as issuer:
        (before,) = keys(issuer)
        issuer.rotate()
        (after,) = keys(issuer)
        assert before["kid"] != after["kid"]
        assert before["x"] != after["x"]


def test_issuer_that_is_down_answers_503() -> None:
    with Issuer("one", "ES256") as issuer:
        issuer.down = True
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            keys(issuer)
        refused.value.close()
