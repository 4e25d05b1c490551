from __future__ import annotations

import faulthandler
import os
import threading

from energyws.control.children import stacks


def test_stacks_show_where_the_thread_is() -> None:
    descriptor = stacks.memory()
    try:
        assert stacks.read(descriptor) == ""
        assert stacks.where("") is None
        faulthandler.dump_traceback(descriptor)
        text = stacks.read(descriptor)
        # Reading does not move the shared position of the file.
        assert stacks.read(descriptor) == text
    finally:
        os.close(descriptor)
    where = stacks.where(text)
    assert where is not None
    assert where.startswith(__file__)
    assert where.endswith(" test_stacks_show_where_the_thread_is")


def test_other_threads_are_included() -> None:
    descriptor = stacks.memory()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        faulthandler.dump_traceback(descriptor)
        text = stacks.read(descriptor)
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)
    assert text.count("most recent call first") >= 2
    assert "test_other_threads" in str(stacks.where(text))
