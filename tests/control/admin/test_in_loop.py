"""Commands from threads: carried out in the loop in time, or never."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from energyws.control.admin.in_loop import in_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def test_command_is_carried_out_in_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    def act(body: Any) -> tuple[int, Any]:
        assert asyncio.get_running_loop() is loop
        return 200, body

    assert in_loop(loop, act)({"n": 1}) == (200, {"n": 1})


def test_command_may_take_several_turns_of_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    async def act(body: Any) -> tuple[int, Any]:
        await asyncio.sleep(0.01)
        if body == "fail":
            raise OSError("broken on purpose")
        return 200, body

    assert in_loop(loop, act)({"n": 1}) == (200, {"n": 1})
    with pytest.raises(OSError, match="broken on purpose"):
        in_loop(loop, act)("fail")


def test_exception_reaches_the_thread(loop: asyncio.AbstractEventLoop) -> None:
    def act(body: Any) -> tuple[int, Any]:
        raise OSError("broken on purpose")

    with pytest.raises(OSError, match="broken on purpose"):
        in_loop(loop, act)(None)


def test_command_that_is_not_begun_in_time_is_never_begun(loop: asyncio.AbstractEventLoop) -> None:
    go_on = threading.Event()
    done: list[Any] = []

    def act(body: Any) -> tuple[int, Any]:
        done.append(body)
        return 200, None

    loop.call_soon_threadsafe(go_on.wait)
    status, answer = in_loop(loop, act, 0.05)("late")
    go_on.set()
    assert (status, done) == (503, [])
    assert answer == {"error": "the supervisor has not begun within 0.05 s: nothing was done"}
    assert in_loop(loop, act)("next") == (200, None)
    assert done == ["next"]


def test_command_that_is_not_finished_in_time_says_so(loop: asyncio.AbstractEventLoop) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def act(body: Any) -> tuple[int, Any]:
        begun.set()
        go_on.wait()
        return 200, None

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(in_loop(loop, act, 0.5), None)
        begun.wait()
        status, answer = future.result()
        go_on.set()
    assert status == 503
    assert "has begun, but not finished within 0.5 s" in answer["error"]


def test_loop_that_has_ended_carries_nothing_out() -> None:
    ended = asyncio.new_event_loop()
    ended.close()
    assert in_loop(ended, lambda body: (200, None))(None) == (
        503,
        {"error": "the service has ended"},
    )
