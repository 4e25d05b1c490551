from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.control.supervised import Run, Supervised


@pytest.fixture
def run() -> Iterator[Run]:
    running: list[Supervised] = []

    def start(
        scripts: dict[str, str] | None = None,
        host: dict[str, Any] | None = None,
        **sections: dict[str, Any],
    ) -> Supervised:
        running.append(Supervised({"*": "steady", **(scripts or {})}, sections, host or {}))
        return running[-1]

    yield start
    for supervised in running:
        supervised.end()
