"""PyJWT's JWS with the work for one token bounded: what it refuses, and that PyJWT uses it."""

from __future__ import annotations

import base64

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.auth.jws import MAX_HEADER_VALUES, Jws

KEY = b"k" * 32
JWS = Jws(algorithms=["HS256"])


def decoded(segment: bytes, name: str = "payload") -> bytes:
    return Jws._decode_base64url_segment(segment, name)


@given(st.binary())
def test_every_content_is_decoded(content: bytes) -> None:
    assert decoded(base64.urlsafe_b64encode(content).rstrip(b"=")) == content


@given(st.binary(max_size=12) | st.text("ab-_+/= .\n", max_size=12).map(str.encode))
def test_a_content_has_one_text(text: bytes) -> None:
    try:
        content = decoded(text)
    except jwt.DecodeError:
        return
    assert base64.urlsafe_b64encode(content).rstrip(b"=") == text


@pytest.mark.parametrize("text", [b"YQ==", b"YR", b"Y", b"Y Q", b"Y+_-", b"Y/__", "é".encode()])
def test_other_texts_are_refused(text: bytes) -> None:
    with pytest.raises(jwt.DecodeError):
        decoded(text)


def test_pyjwt_decodes_every_part_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = Jws._decode_base64url_segment

    def recording(segment: bytes, name: str) -> bytes:
        seen.append(name)
        return real(segment, name)

    monkeypatch.setattr(Jws, "_decode_base64url_segment", staticmethod(recording))
    token = JWS.encode(b"{}", KEY, "HS256")
    assert JWS.decode_complete(token, KEY, algorithms=["HS256"])["payload"] == b"{}"
    assert sorted(seen) == ["crypto", "header", "payload"]


def test_header_has_a_bounded_number_of_values() -> None:
    # Beside the two that every header has.
    most = {str(n): n for n in range(MAX_HEADER_VALUES - 2)}
    token = JWS.encode(b"{}", KEY, "HS256", headers=most)
    header = JWS.decode_complete(token, KEY, algorithms=["HS256"])["header"]
    assert {**header, **most} == header
    token = JWS.encode(b"{}", KEY, "HS256", headers=most | {"one": "more"})
    with pytest.raises(jwt.DecodeError, match="too many values"):
        JWS.decode_complete(token, KEY, algorithms=["HS256"])


def test_header_with_certificates_is_long_and_accepted() -> None:
    chain = {"x5c": ["M" * 1500] * 3}
    token = JWS.encode(b"{}", KEY, "HS256", headers=chain)
    assert JWS.decode_complete(token, KEY, algorithms=["HS256"])["header"]["x5c"] == chain["x5c"]
