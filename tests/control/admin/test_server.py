"""The admin port's server recovers from failures, and answers and logs them."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from energyws.control.admin import server as module
from energyws.control.admin.server import MAX_REQUESTS_AT_ONCE, AdminServer
from energyws.settings import Admin
from energyws.testing import eventually


def fail_like_a_client() -> tuple[int, Any]:
    raise OSError("a file is missing")


@pytest.fixture
def server() -> Iterator[AdminServer]:
    made = AdminServer(
        Admin(port=0),
        {"/ok": lambda: (200, {"ok": True}), "/broken": fail_like_a_client},
        {},
        {"/broken": lambda body: fail_like_a_client()},
    )
    yield made
    made.close()


def ask(server: AdminServer, path: str, data: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", data, 5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def answers(server: AdminServer) -> bool:
    try:
        return ask(server, "/ok")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("data", [None, b"{}"], ids=["GET", "POST"])
def test_failure_is_answered(server: AdminServer, data: bytes | None) -> None:
    assert ask(server, "/broken", data) == (
        500,
        {"error": "a fault of the service: see its log"},
    )
    assert answers(server)


def test_thread_that_accepts_continues_after_a_failure(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    failed = threading.Event()

    def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("broken on purpose")

    monkeypatch.setattr(server._server, "service_actions", fail_once)
    failed.wait(10)
    eventually(lambda: answers(server), "the server answers again")


def test_requests_that_get_no_thread_do_not_count_as_running(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(MAX_REQUESTS_AT_ONCE + 1):
            assert not answers(server)
    assert threading.Thread.start is start
    eventually(lambda: answers(server), "the server answers again")
