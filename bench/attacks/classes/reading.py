"""Clients that read too little, or far too much."""

from __future__ import annotations

from typing import Final

from bench.attacks.attack import ONE_SUBJECT, attack
from bench.attacks.held import Held
from bench.attacks.target import Target
from bench.attacks.wire import UNSUBSCRIBE, subscribe
from bench.kit.handshake import bearer, get_request, upgrade_request

# A ring of which a replay fills every buffer: 11 MB.
_FRAMES: Final = 10_000
# What 100 clients may hold in the worker: a write buffer of 64 KiB each, and the objects around it.
_BUFFERS_MIB: Final = 64.0


@attack(
    name="never-read",
    title="300 clients with one token never read",
    who=ONE_SUBJECT,
    answer="each keeps a position and one write buffer; ended after 30 s",
)
def never_read(target: Target) -> None:
    request = upgrade_request("/ws/energy?subscribe=energy", bearer(target.token)).encode()
    Held(target, 300, lambda _: request, rate=300, read_bytes=1).run()


@attack(
    name="stopped",
    title="250 clients with one token read 2 MB of a replay, then stop",
    who=ONE_SUBJECT,
    answer="the kernel keeps a bounded buffer for each; ended after 30 s",
    frames=_FRAMES,
    records=_FRAMES,
    memory_mib=_BUFFERS_MIB,
)
def stopped(target: Target) -> None:
    path = f"/ws/energy?subscribe=energy&last={_FRAMES}"
    request = upgrade_request(path, bearer(target.token)).encode()
    Held(target, 250, lambda _: request, rate=250, read_bytes=2_000_000).run()


@attack(
    name="slow-events",
    title="250 event streams with one token read 2 MB of a replay, then stop",
    who=ONE_SUBJECT,
    answer="as above",
    door="/sse/energy",
    frames=_FRAMES,
    records=_FRAMES,
    memory_mib=_BUFFERS_MIB,
)
def slow_events(target: Target) -> None:
    request = get_request(f"/sse/energy?last={_FRAMES}", bearer(target.token)).encode()
    Held(target, 250, lambda _: request, rate=250, read_bytes=2_000_000).run()


@attack(
    name="replays",
    title="20 clients with one token replay everything in memory (11 MB), again and again",
    who=ONE_SUBJECT,
    answer="more slowly than live records, within a budget of bytes",
    frames=_FRAMES,
    records=_FRAMES,
)
def replays(target: Target) -> None:
    _replays(target, _FRAMES)


@attack(
    name="log-replays",
    title="the same over records that only the log has",
    who=ONE_SUBJECT,
    answer="as above, and in turn",
    records=_FRAMES,
)
def log_replays(target: Target) -> None:
    _replays(target, _FRAMES)


def _replays(target: Target, frames: int) -> None:
    # Each word begins another replay, whether or not the last one is complete.
    word = UNSUBSCRIBE + subscribe(last=frames)
    request = upgrade_request("/ws/energy", bearer(target.token)).encode()
    Held(target, 20, lambda _: request, rate=20, word=lambda: word, pause=0.25).run()
