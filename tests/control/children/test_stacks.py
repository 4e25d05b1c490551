from __future__ import annotations

import faulthandler
import os
import threading

from energyws.control.children import stacks


def test_stacks_say_where_the_thread_stands() -> None:
    descriptor = stacks.memory()
    try:
        assert stacks.read(descriptor) == ""
        assert stacks.where("") is None
        faulthandler.dump_traceback(descriptor)
        told = stacks.read(descriptor)
        # Reading again finds it again: the child writes, and nobody else moves.
        assert stacks.read(descriptor) == told
    finally:
        os.close(descriptor)
    where = stacks.where(told)
    assert where is not None
    assert where.startswith(__file__)
    assert where.endswith(" test_stacks_say_where_the_thread_stands")


def test_other_threads_are_there_too() -> None:
    descriptor = stacks.memory()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        faulthandler.dump_traceback(descriptor)
        told = stacks.read(descriptor)
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)
    assert told.count("most recent call first") >= 2
    assert "test_other_threads" in str(stacks.where(told))
