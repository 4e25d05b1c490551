"""Commands that come from a thread and are carried out in the loop, or are not, but never later."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, Final

# How long a thread waits for the loop.
ACT_SECONDS: Final = 20.0

Answer = tuple[int, Any]
_STUCK: Final = "the supervisor has not come to it within {:g} s: nothing was done"
_SLOW: Final = "the supervisor has begun it and not finished within {:g} s: look before you repeat"
_GONE: Final = "the service has ended"


def in_loop(
    loop: asyncio.AbstractEventLoop,
    act: Callable[[Any], Answer],
    seconds: float | None = None,
) -> Callable[[Any], Answer]:
    """`act`, for threads: called in the loop, with the status and JSON body of its answer.

    A loop that does not come to it in time never will: whoever sent the command gets 503 and can
    send it again. What `act` raises is raised here.
    """

    def call(body: Any) -> Answer:
        patience = ACT_SECONDS if seconds is None else seconds
        done: concurrent.futures.Future[Answer] = concurrent.futures.Future()

        def carry_out() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(act(body))
            except Exception as error:
                done.set_exception(error)

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
