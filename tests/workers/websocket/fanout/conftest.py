"""Fixtures for tests of one stream's fan-out."""

from __future__ import annotations

import pytest

from tests.workers.websocket.fanout.one_stream import OneStream


@pytest.fixture
def stream() -> OneStream:
    return OneStream()
