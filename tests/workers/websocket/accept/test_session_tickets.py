"""Calls of OpenSSL behind Python's back, and when they are not made."""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from energyws.process.ticket_keys import KEYS_BYTES, LIFE_SECONDS
from energyws.settings import Tls
from energyws.testing.certificates import write_pair
from workers.websocket.accept import session_tickets
from workers.websocket.accept.session_tickets import (
    Unusable,
    _address,
    _library,
    _shake_hands,
    check,
    forget_sessions,
    use_keys,
)
from workers.websocket.accept.tls_context import tls_context

VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name
)
KEYS, OTHER_KEYS = bytes(KEYS_BYTES), bytes([1]) * KEYS_BYTES


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(**write_pair(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def fresh_library() -> Iterator[None]:
    """Look for the library again, and once more after the test."""
    _library.cache_clear()
    yield
    _library.cache_clear()


def client_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = version
    return client


def resumed(
    version: ssl.TLSVersion, begun_with: ssl.SSLContext, then_with: ssl.SSLContext
) -> bool | None:
    client = client_context(version)
    first = _shake_hands(client, begun_with, None)
    assert first.version() == version.name.replace("_", ".")
    return _shake_hands(client, then_with, first.session).session_reused


@VERSIONS
def test_session_is_resumed_with_the_same_keys_only(tls: Tls, version: ssl.TLSVersion) -> None:
    one, two = tls_context(tls), tls_context(tls)
    assert resumed(version, one, one)
    assert not resumed(version, one, two)
    for context in (one, two):
        use_keys(context, KEYS)
    assert resumed(version, one, two)
    use_keys(two, OTHER_KEYS)
    assert not resumed(version, one, two)


@VERSIONS
def test_certificate_may_be_renewed_meanwhile(
    tls: Tls, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    before, after = tls_context(tls), tls_context(Tls(**write_pair(tmp_path)))
    for context in (before, after):
        use_keys(context, KEYS)
    assert resumed(version, before, after)


def test_ticket_is_valid_as_long_as_its_keys(tls: Tls) -> None:
    context = tls_context(tls)
    use_keys(context, KEYS)
    session = _shake_hands(client_context(ssl.TLSVersion.TLSv1_3), context, None).session
    assert session is not None
    assert session.ticket_lifetime_hint == LIFE_SECONDS


@VERSIONS
def test_without_tickets_nothing_is_resumed(tls: Tls, version: ssl.TLSVersion) -> None:
    context = tls_context(Tls(cert=tls.cert, key=tls.key, session_tickets=False))
    forget_sessions(context)
    first = _shake_hands(client_context(version), context, None)
    assert first.session is None or not first.session.has_ticket
    assert not resumed(version, context, context)


def test_one_ticket_is_given_per_handshake(tls: Tls) -> None:
    assert tls_context(tls).num_tickets == 1


def test_check_passes_with_a_known_interpreter(tls: Tls) -> None:
    check(lambda: tls_context(tls))


def test_check_notices_contexts_that_do_not_resume(tls: Tls) -> None:
    without = Tls(cert=tls.cert, key=tls.key, session_tickets=False)
    with pytest.raises(Unusable, match="does not resume"):
        check(lambda: tls_context(without))


def test_check_notices_a_failed_handshake() -> None:
    # It has no certificate.
    with pytest.raises(Unusable, match="NO_SHARED_CIPHER"):
        check(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@pytest.mark.usefixtures("fresh_library")
@pytest.mark.parametrize(
    ("target", "name", "value", "why"),
    [
        (ssl, "OPENSSL_VERSION", "OpenSSL 4.0.0 1 Apr 2027", "OpenSSL 3 only, not for OpenSSL 4"),
        (ssl, "OPENSSL_VERSION", "AWS-LC 1.40.0", "OpenSSL 3 only, not for AWS-LC"),
        (ssl, "OPENSSL_VERSION_NUMBER", 0x30000000, "two versions"),
        (sys, "version_info", (3, 15, 0), r"CPython 3\.11 to 3\.14"),
        (_ssl, "__file__", "/nowhere", "not found"),
        # The C library has none of OpenSSL's functions.
        (_ssl, "__file__", "libc.so.6", "not found"),
        (sys, "abiflags", "t", "other objects"),
        (session_tickets, "_CACHE_SERVER", 7, "in another way"),
    ],
)
def test_unknown_interpreter_is_refused(
    target: object, name: str, value: object, why: str, monkeypatch: pytest.MonkeyPatch, tls: Tls
) -> None:
    context = tls_context(tls)
    monkeypatch.setattr(target, name, value)
    with pytest.raises(Unusable, match=why):
        use_keys(context, KEYS)


@pytest.mark.usefixtures("fresh_library")
def test_interpreter_with_openssl_inside_is_refused(
    monkeypatch: pytest.MonkeyPatch, tls: Tls
) -> None:
    context = tls_context(tls)
    monkeypatch.delattr(_ssl, "__file__")
    with pytest.raises(Unusable, match="part of the interpreter"):
        use_keys(context, KEYS)


@pytest.mark.parametrize("pointer", [0, 0x1001], ids=["null", "odd"])
def test_what_cannot_be_a_pointer_is_not_followed(
    pointer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = (ctypes.c_uint64 * 8)()
    memory[object.__basicsize__ // 8] = pointer
    monkeypatch.setattr(session_tickets, "id", lambda _: ctypes.addressof(memory), raising=False)
    with pytest.raises(Unusable, match="in another way"):
        _address(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
