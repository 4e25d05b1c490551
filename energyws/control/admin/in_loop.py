"""Commands that come from a thread and are carried out in the loop, or are not, but never later."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any, Final

# How long a thread waits for the loop: longer than new settings are tried.
ACT_SECONDS: Final = 25.0

Answer = tuple[int, Any]
Act = Callable[[Any], Answer | Awaitable[Answer]]
_STUCK: Final = "the supervisor has not come to it within {:g} s: nothing was done"
_SLOW: Final = "the supervisor has begun it and not finished within {:g} s: look before you repeat"
_GONE: Final = "the service has ended"
# asyncio holds tasks weakly.
_begun: Final[set[asyncio.Task[None]]] = set()


def in_loop(
    loop: asyncio.AbstractEventLoop, act: Act, seconds: float | None = None
) -> Callable[[Any], Answer]:
    """`act`, for threads: called in the loop, with the status and JSON body of its answer.

    A command that the loop does not come to in time is never carried out: the operator gets 503 and
    can send it again. What `act` raises is raised here.
    """

    def call(body: Any) -> Answer:
        patience = ACT_SECONDS if seconds is None else seconds
        done: concurrent.futures.Future[Answer] = concurrent.futures.Future()

        async def finish(said: Awaitable[Answer]) -> None:
            try:
                done.set_result(await said)
            except Exception as error:
                done.set_exception(error)

        def carry_out() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                said = act(body)
            except Exception as error:
                done.set_exception(error)
                return
            if isinstance(said, tuple):
                done.set_result(said)
            else:
                task = loop.create_task(finish(said))
                _begun.add(task)
                task.add_done_callback(_begun.discard)

        try:
            loop.call_soon_threadsafe(carry_out)
        except RuntimeError:
            return 503, {"error": _GONE}
        if not concurrent.futures.wait([done], patience).done:
            # Either this wins or `set_running_or_notify_cancel` does.
            stuck = done.cancel()
            return 503, {"error": (_STUCK if stuck else _SLOW).format(patience)}
        return done.result()

    return call
