"""GET shows real children that do nothing, and POST calls the supervisor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from energyws.control.admin.handlers import LIVE_SECONDS, Handlers
from energyws.control.children.children import SUPERVISOR_ROW, Children
from energyws.control.children.listeners import Listeners
from energyws.control.children.spawn import Spawner
from energyws.control.policy.actions import Start
from energyws.control.policy.fleet import Fleet
from energyws.control.policy.readiness import DRAINING, NO_CONSUMER, NO_WORKER, NOT_READ_BACK
from energyws.control.reload.plan import Outcome
from energyws.logs.recent import Recent
from energyws.process.board import Board, Field, State
from energyws.settings import Kafka, Level, Server, Settings, Stream

SETTINGS: Final = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    streams={"energy": Stream(topic="t")},
    server=Server(host="127.0.0.1", port=0, drain_seconds=7),
)
NOT_WHILE_DRAINING: Final = (409, {"error": "the service is draining"})


class RecordingSupervisor:
    """Records the calls instead of acting on them."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.outcome = Outcome()

    def scale(self, workers: int) -> None:
        self.calls.append(("scale", workers))

    def rebalance(self) -> dict[str, int]:
        self.calls.append(("rebalance",))
        return {"worker-0": 5}

    def replace(self) -> None:
        self.calls.append(("replace",))

    def reload(self, trigger: str) -> asyncio.Future[Outcome]:
        self.calls.append(("reload", trigger))
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        future.set_result(self.outcome)
        return future

    def drain(self, trigger: str) -> None:
        self.calls.append(("drain", trigger))

    def set_log_level(self, trigger: str, level: Level) -> None:
        self.calls.append(("log level", trigger, level))


class Play:
    def __init__(self, tmp_path: Path) -> None:
        board = Board.create()
        self.listeners = Listeners(SETTINGS.server, 1)
        command = ["/bin/sh", "-c", "exec sleep 600"]
        spawner = Spawner(
            SETTINGS, board.descriptor, tmp_path, lambda spec: command, lambda settings: {}
        )
        self.children = Children(spawner, board, self.listeners, lambda: None)
        self.fleet = Fleet(SETTINGS, 1, lambda: 0.0)
        self.operations = RecordingSupervisor()
        self.handlers = Handlers(
            self.fleet,
            self.children,
            board.row(SUPERVISOR_ROW),
            Recent("supervisor", 5),
            self.operations,
        )

    def start(self) -> None:
        async def run() -> None:
            self.children.start(Start(1, "consumer", None))
            self.children.start(Start(2, "worker-0", 0))

        asyncio.run(run())

    def set(self, name: str, **fields: int) -> None:
        for child in self.children:
            if child.spec.name == name:
                for field, value in fields.items():
                    child.row[Field[field]] = value

    def get(self, path: str) -> tuple[int, Any]:
        return self.handlers.answers()[path]()

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Post from another thread while the loop runs, as the admin port does."""

        async def run() -> tuple[int, Any]:
            commands = self.handlers.commands(asyncio.get_running_loop())
            return await asyncio.to_thread(commands[path], body)

        return asyncio.run(run())


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made = Play(tmp_path)
    yield made
    made.children.kill_all()
    made.listeners.close()


def test_service_without_children_is_not_ready(play: Play) -> None:
    reasons = [NO_CONSUMER, NO_WORKER]
    assert play.get("/ready") == (503, {"ready": False, "reasons": reasons})
    play.fleet.drain(0.0)
    assert play.get("/ready")[1]["reasons"] == [DRAINING, *reasons]


def test_ready_follows_the_board(play: Play) -> None:
    play.start()
    play.set("worker-0", STATE=State.READY)
    play.set("consumer", STATE=State.STARTING, BROKER_UP=1)
    assert play.get("/ready") == (503, {"ready": False, "reasons": [NOT_READ_BACK]})
    play.set("consumer", STATE=State.READY)
    assert play.get("/ready") == (200, {"ready": True, "reasons": []})
    # A child that is being killed serves no client.
    play.children.kill(2, "no heartbeat", hung=True)
    assert play.get("/ready")[1]["reasons"] == [NO_WORKER]


def test_live_as_long_as_the_supervisor_takes_steps(play: Play) -> None:
    assert play.get("/live")[0] == 200
    play.handlers.stepped_at -= LIVE_SECONDS + 1
    status, body = play.get("/live")
    assert (status, body["live"]) == (503, False)
    assert body["silent_seconds"] >= LIVE_SECONDS


def test_children_and_their_rows_are_listed(play: Play) -> None:
    play.start()
    play.set("worker-0", STATE=State.READY, CONNECTIONS=3)
    _, workers = play.get("/workers")
    assert [(each["name"], each["state"], each["restarts"]) for each in workers] == [
        ("consumer", "empty", 0),
        ("worker-0", "ready", 0),
    ]
    assert workers[1]["board"]["connections"] == 3
    status, document = play.get("/status")
    assert status == 200
    assert [each["name"] for each in document["processes"]] == [
        *("supervisor", "consumer", "worker-0")
    ]


def test_metrics_are_of_the_same_status(play: Play) -> None:
    play.start()
    play.set("worker-0", DELIVERIES=9)
    content_type, text = play.handlers.pages()["/metrics"]("")
    assert content_type.startswith("text/plain")
    assert b'energyws_deliveries_total{worker="worker-0"} 9.0' in text


@pytest.mark.parametrize(
    ("path", "body", "answer", "call"),
    [
        ("/workers", {"workers": 3}, {"workers": 3, "before": 1}, ("scale", 3)),
        ("/rebalance", None, {"shed": {"worker-0": 5}}, ("rebalance",)),
        ("/roll", None, {"replacing": True}, ("replace",)),
        ("/reload", None, {"changed": [], "restart": []}, ("reload", "POST /reload")),
        ("/drain", None, {"seconds": 7}, ("drain", "POST /drain")),
        (
            "/log",
            {"level": "DEBUG"},
            {"level": "DEBUG", "before": "INFO"},
            ("log level", "POST /log", "DEBUG"),
        ),
    ],
)
def test_post_calls_the_supervisor(
    play: Play, path: str, body: Any, answer: Any, call: tuple[object, ...]
) -> None:
    assert play.post(path, body) == (200, answer)
    assert play.operations.calls == [call]


@pytest.mark.parametrize("path", ["/workers", "/rebalance", "/roll", "/reload", "/drain"])
def test_service_that_drains_does_nothing_else(play: Play, path: str) -> None:
    play.fleet.drain(0.0)
    assert play.post(path, {"workers": 3}) == NOT_WHILE_DRAINING
    assert play.operations.calls == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(("/workers", body) for body in (None, [], 3, {}, {"workers": True}, {"workers": 0})),
        *(("/workers", {"workers": each}) for each in ("3", 3.0, 10_000)),
        *(("/log", body) for body in (None, "DEBUG", {}, {"level": "debug"}, {"level": []})),
    ],
)
def test_invalid_body_is_refused_with_an_example_of_a_valid_one(
    play: Play, path: str, body: Any
) -> None:
    status, answer = play.post(path, body)
    assert status == 400
    assert answer["error"].startswith('send {"')
    assert play.operations.calls == []


def test_refused_reload_is_answered_with_every_problem(play: Play) -> None:
    play.operations.outcome = Outcome(problems=("one", "two"))
    assert play.post("/reload") == (
        422,
        {"error": "refused: going on as before", "problems": ["one", "two"]},
    )
    play.operations.outcome = Outcome(changed=("server.port",), restart=("server.port",))
    assert play.post("/reload") == (200, {"changed": ["server.port"], "restart": ["server.port"]})


def test_post_is_carried_out_in_the_loop(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(
        play.operations, "replace", lambda: threads.append(threading.current_thread())
    )
    play.post("/roll")
    assert threads == [threading.current_thread()]
