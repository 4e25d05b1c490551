"""The contexts of a worker share the keys that the supervisor gives, or say why not."""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from energyws.errors import BootError
from energyws.process.ticket_keys import KEYS_BYTES
from energyws.settings import Tls
from energyws.testing.certificates import write_pair
from workers.websocket.accept import session_tickets
from workers.websocket.accept.session_tickets import Unusable, _shake_hands
from workers.websocket.accept.tls_context import TlsContexts, tls_context

KEYS, OTHER_KEYS = bytes(KEYS_BYTES), bytes([1]) * KEYS_BYTES


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(**write_pair(tmp_path_factory.mktemp("tls")))


def made(contexts: TlsContexts, tls: Tls) -> ssl.SSLContext:
    context = contexts.make(tls)
    assert context is not None
    return context


def resumed(begun_with: ssl.SSLContext, then_with: ssl.SSLContext) -> bool | None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    session = _shake_hands(client, begun_with, None).session
    return _shake_hands(client, then_with, session).session_reused


@pytest.mark.parametrize("keys_first", [True, False])
def test_two_workers_with_the_same_keys_resume_each_other(tls: Tls, keys_first: bool) -> None:
    workers = [TlsContexts(quiet=False), TlsContexts(quiet=True)]
    made_by = []
    for each in workers:
        if keys_first:
            each.use_keys(KEYS)
        made_by.append(made(each, tls))
        if not keys_first:
            each.use_keys(KEYS)
    assert resumed(*made_by)
    workers[0].use_keys(OTHER_KEYS)
    assert not resumed(*made_by)
    workers[1].use_keys(OTHER_KEYS)
    assert resumed(*made_by)


def test_context_of_a_reload_has_the_same_keys(tls: Tls, tmp_path: Path) -> None:
    contexts = TlsContexts(quiet=False)
    contexts.use_keys(KEYS)
    before = made(contexts, tls)
    assert resumed(before, made(contexts, Tls(**write_pair(tmp_path))))


def test_refused_pair_leaves_the_present_context_in_use(tls: Tls, tmp_path: Path) -> None:
    contexts, other = TlsContexts(quiet=False), TlsContexts(quiet=False)
    present, its = made(contexts, tls), made(other, tls)
    with pytest.raises(BootError, match=r"server\.tls: .* cannot be used"):
        contexts.make(replace(tls, key=str(tmp_path / "none")))
    for each in (contexts, other):
        each.use_keys(KEYS)
    assert resumed(present, its)


def test_tls_and_tickets_can_be_turned_off_and_on(tls: Tls) -> None:
    contexts = TlsContexts(quiet=False)
    contexts.use_keys(KEYS)
    assert contexts.make(None) is None
    off = made(contexts, replace(tls, session_tickets=False))
    contexts.use_keys(KEYS)
    assert not resumed(off, off)
    on = made(contexts, tls)
    assert resumed(on, on)


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("tickets", [True, False])
def test_worker_that_cannot_share_says_so_once_and_works(
    tls: Tls,
    tickets: bool,
    quiet: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unusable() -> None:
        raise Unusable("it is made of cheese")

    monkeypatch.setattr(session_tickets, "_library", unusable)
    contexts = TlsContexts(quiet=quiet)
    with caplog.at_level(logging.INFO, "energyws.listener"):
        context = made(contexts, replace(tls, session_tickets=tickets))
        if tickets:
            made(contexts, tls)
        contexts.use_keys(KEYS)
    # By its own keys, as OpenSSL does by itself.
    assert bool(resumed(context, context)) is tickets
    assert not resumed(context, tls_context(tls))
    assert len(caplog.records) == (not quiet)
    for record in caplog.records:
        assert str(record.energyws_fields["reason"]) == "it is made of cheese"  # type: ignore[attr-defined]
