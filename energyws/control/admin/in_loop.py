"""Commands from threads, carried out in the event loop in time or not at all."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any, Final

# How long a thread waits for the loop: longer than a preflight takes.
ACT_SECONDS: Final = 25.0

Answer = tuple[int, Any]
Act = Callable[[Any], Answer | Awaitable[Answer]]
_NOT_BEGUN: Final = "the supervisor has not begun within {:g} s: nothing was done"
_NOT_FINISHED: Final = (
    "the supervisor has begun, but not finished within {:g} s: check before you repeat"
)
_GONE: Final = "the service has ended"
# asyncio holds tasks weakly.
_begun: Final[set[asyncio.Task[None]]] = set()


def in_loop(
    loop: asyncio.AbstractEventLoop, act: Act, seconds: float | None = None
) -> Callable[[Any], Answer]:
    """`act` as a function for threads, which is called in the loop.

    A command that the loop has not begun in time is never carried out: the operator gets 503 and
    can send it again. The function raises what `act` raises.
    """

    def call(body: Any) -> Answer:
        patience = ACT_SECONDS if seconds is None else seconds
        done: concurrent.futures.Future[Answer] = concurrent.futures.Future()

        async def finish(answer: Awaitable[Answer]) -> None:
            try:
                done.set_result(await answer)
            except Exception as error:
                done.set_exception(error)

        def carry_out() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                answer = act(body)
            except Exception as error:
                done.set_exception(error)
                return
            if isinstance(answer, tuple):
                done.set_result(answer)
            else:
                task = loop.create_task(finish(answer))
                _begun.add(task)
                task.add_done_callback(_begun.discard)

        try:
            loop.call_soon_threadsafe(carry_out)
        except RuntimeError:
            return 503, {"error": _GONE}
        if not concurrent.futures.wait([done], patience).done:
            # Fails if `set_running_or_notify_cancel` was first.
            cancelled = done.cancel()
            return 503, {"error": (_NOT_BEGUN if cancelled else _NOT_FINISHED).format(patience)}
        return done.result()

    return call
