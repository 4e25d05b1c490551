from __future__ import annotations

import shutil
from contextlib import closing
from functools import partial

import pytest

from bench.kit.record import padded
from bench.peers.building import command
from bench.peers.catalogue import PEERS, Peer, missing, versions
from bench.peers.plan import kept_up, sustained
from bench.peers.running import Running


@pytest.mark.parametrize(
    ("target", "capacity", "known", "found"),
    [
        (40_000, 1e9, 0, 40_000),
        (2_000_000, 1e9, 40_000, 2_000_000),
        (2_000_000, 100_000, 40_000, 80_000),
        (2_000_000, 120_000, 40_000, 80_000 * 2**0.5),
        (40_000, 5_000, 0, 0),
        (40_000, 0, 40_000, 40_000),
    ],
)
def test_sustained_load_is_within_the_capacity_of_the_peer(
    target: float, capacity: float, known: float, found: float
) -> None:
    tried: list[float] = []

    def sustains(load: float) -> bool:
        tried.append(load)
        return load <= capacity

    assert sustained(target, known, sustains) == pytest.approx(found)
    # An overloaded peer would need long to work off its backlog.
    assert all(load <= max(2 * capacity, 10_000) for load in tried)
    assert len(tried) <= 10


@pytest.mark.parametrize(
    ("seconds", "lost", "kept"), [(2.0, 0, True), (2.5, 0, True), (2.6, 0, False), (2.0, 1, False)]
)
def test_peer_keeps_up_if_it_is_in_time_and_loses_nothing(
    seconds: float, lost: int, kept: bool
) -> None:
    assert kept_up(2.0, seconds, lost) is kept


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ["websockets", "aiohttp", "starlette", "picows"])
def test_every_client_of_a_peer_gets_everything(name: str, tls: bool) -> None:
    peer = next(peer for peer in PEERS if peer.name == name)
    with closing(Running(peer, command(peer), 5, tls)) as running:
        row = running.run(partial(padded, frame_bytes=440), 100, 0.3)
        assert row["lost"] == 0
        assert row["closed"] == 0
        assert row["delay_p50_ms"] > 0
        assert not running.broken


def test_program_that_ends_immediately_is_reported() -> None:
    with pytest.raises(RuntimeError, match="axum has ended"):
        Running(PEERS[0], ["true"], 5, False)


def test_names_are_unique() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)


@pytest.mark.parametrize("peer", [p for p in PEERS if p.kind != "python"], ids=lambda p: p.name)
def test_missing_toolchain_is_named(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not found on PATH" in (missing(peer) or "")


@pytest.mark.parametrize("peer", [p for p in PEERS if p.kind != "python"], ids=lambda p: p.name)
def test_pinned_versions_are_found(peer: Peer) -> None:
    found = versions(peer)
    assert found
    assert all(number[0].isdigit() for number in found.values())
