from __future__ import annotations

from pathlib import Path

import pytest

from energyws.control.sockets import SOMAXCONN, queue_limit


@pytest.mark.parametrize(
    ("backlog", "somaxconn", "limit"),
    [(4096, "128\n", 128), (4096, "4096\n", None), (100, "4096\n", None), (10, "?\n", None)],
)
def test_queue_is_as_long_as_the_kernel_allows(
    tmp_path: Path, backlog: int, somaxconn: str, limit: int | None
) -> None:
    path = tmp_path / "somaxconn"
    path.write_text(somaxconn)

    assert queue_limit(backlog, path) == limit


def test_where_the_kernel_does_not_tell_nothing_is_said(tmp_path: Path) -> None:
    assert queue_limit(4096, tmp_path / "missing") is None


def test_the_limit_is_this_kernels() -> None:
    limit = int(SOMAXCONN.read_text())

    assert queue_limit(limit) is None
    assert queue_limit(limit + 1) == limit
