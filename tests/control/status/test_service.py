"""Requests to the service, and the outcome that operators see."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.status import service
from energyws.control.status.keys import KeyCommand
from energyws.settings import MAX_WORKERS, Admin


class FakeAdmin(AdminClient):
    """Gives one answer to every request, and records the commands."""

    def __init__(self, answer: Any) -> None:
        super().__init__(Admin())
        self.answer = answer
        self.posted: list[tuple[str, object]] = []

    def get(self, path: str) -> Any:
        assert path == "/status"
        return self.answer

    def post(self, path: str, body: object, *keys: str) -> Any:
        self.posted.append((path, body))
        return self.answer


@pytest.mark.parametrize("answer", [None, [], "ok", {}, {"status": "ok"}])
def test_answer_of_another_program_is_refused(answer: object) -> None:
    with pytest.raises(AdminRequestFailed, match="is not the admin port"):
        service.look(FakeAdmin(answer))


@pytest.mark.parametrize(
    ("command", "answer", "posted", "outcome"),
    [
        (
            KeyCommand.MORE,
            {"processes": [], "workers_wanted": 2, "before": 2, "workers": 3},
            [("/workers", {"workers": 3})],
            "workers: 2 before, 3 now",
        ),
        (
            KeyCommand.LESS,
            {"processes": [], "workers_wanted": 2, "before": 2, "workers": 1},
            [("/workers", {"workers": 1})],
            "workers: 2 before, 1 now",
        ),
        (
            KeyCommand.LESS,
            {"processes": [], "workers_wanted": 1},
            [],
            "workers: 1 stay, 1 to 64 are possible",
        ),
        (
            KeyCommand.MORE,
            {"processes": [], "workers_wanted": MAX_WORKERS},
            [],
            "workers: 64 stay, 1 to 64 are possible",
        ),
        (
            KeyCommand.REBALANCE,
            {"shed": {}},
            [("/rebalance", None)],
            "no worker has more than its share",
        ),
        (
            KeyCommand.REBALANCE,
            {"shed": {"worker-0": 3, "worker-2": 1}},
            [("/rebalance", None)],
            "worker-0 sheds 3 clients, worker-2 sheds 1 clients",
        ),
        (
            KeyCommand.ROLL,
            {"replacing": []},
            [("/roll", None)],
            "every process is being replaced, one at a time; the log shows the progress",
        ),
        (
            KeyCommand.DRAIN,
            {"seconds": 2.5},
            [("/drain", None)],
            "closing all connections within 2.5 s; then the service ends",
        ),
    ],
)
def test_command_is_sent_and_its_outcome_shown(
    command: KeyCommand, answer: object, posted: list[tuple[str, object]], outcome: str
) -> None:
    admin = FakeAdmin(answer)
    assert service.carry_out(admin, command) == outcome
    assert admin.posted == posted
