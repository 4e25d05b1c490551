"""When discovery looks at topics, and what it reports; the test gives the topics."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import workers
from energyws.errors import ExitCode
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Kafka
from energyws.testing import eventually
from workers.consumer import discovery as module
from workers.consumer.discovery import Discovery
from workers.consumer.metadata import BrokersUnavailable, Topic, TopicUnavailable

Result = Topic | BrokersUnavailable | TopicUnavailable
TOPIC = Topic("aaaa0000", ((0, 3), (0, 5)))
MISSING = TopicUnavailable(Stall.NO_TOPIC, "no such topic")


class Stage:
    """A discovery of the streams `a` and `b`, which finds the topics in `results`."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {"topic-a": TOPIC, "topic-b": TOPIC}
        self.known_epochs: dict[str, str | None] = {}
        self.reported: list[tuple[str, Topic]] = []
        self.brokers: list[tuple[bool, str]] = []
        self.ends: list[str] = []
        self.stalls: list[tuple[str, dict[int, Stall]]] = []
        self.discovery = Discovery(
            None,  # type: ignore[arg-type]
            Kafka(brokers="b", metadata_refresh_seconds=60.0),
            {"a": "topic-a", "b": "topic-b"},
            lambda stream, topic: self.reported.append((stream, topic)),
            lambda up, reason: self.brokers.append((up, reason)),
            lambda stream, topic: self.ends.append(stream),
            lambda stream, stalls: self.stalls.append((stream, dict(stalls))),
        )

    def describe(self, admin: object, name: str, level: object, known_epoch: str | None) -> Topic:
        self.known_epochs[name] = known_epoch
        result = self.results[name]
        if isinstance(result, Topic):
            return result
        raise result

    def look(self) -> list[tuple[str, Topic]]:
        """The topics that one look reports."""
        self.reported.clear()
        self.stalls.clear()
        self.discovery.look()
        return list(self.reported)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(module, "describe", made.describe)
    return made


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    found: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = record.energyws_fields  # type: ignore[attr-defined]
            found.append(f"{fields['stream']}: {fields['reason']}")

    handler, logger = Recorder(), logging.getLogger("energyws.discovery")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_topic_is_reported_once_while_unchanged(stage: Stage) -> None:
    assert stage.look() == [("a", TOPIC), ("b", TOPIC)]
    # Ends change all the time, so they have their own callback.
    stage.results["topic-a"] = Topic("aaaa0000", ((2, 7), (0, 5)))
    assert stage.look() == []
    assert stage.ends == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(Topic("bbbb0000", ((0, 1), (0, 1))), id="recreated"),
        pytest.param(Topic("aaaa0000", ((0, 3), (0, 5), (0, 0))), id="partition added"),
        pytest.param(Topic("aaaa0000", ((0, 3), None), {1: Stall.NO_LEADER}), id="stalled"),
    ],
)
def test_changed_topic_is_reported_again(stage: Stage, changed: Topic) -> None:
    stage.look()
    stage.results["topic-b"] = changed
    assert stage.look() == [("b", changed)]
    assert ("b", dict(changed.stalls)) in stage.stalls
    stage.results["topic-b"] = TOPIC
    assert stage.look() == [("b", TOPIC)]


def test_look_again_reports_a_topic_that_has_not_changed(stage: Stage) -> None:
    stage.look()
    stage.discovery.look_again("a")
    assert stage.look() == [("a", TOPIC)]
    # Its epoch is kept: without a controller it cannot be fetched.
    assert stage.known_epochs["topic-a"] == TOPIC.epoch


def test_missing_topic_does_not_hide_the_next_one(stage: Stage, warnings: list[str]) -> None:
    stage.results["topic-a"] = MISSING
    assert stage.look() == [("b", TOPIC)]
    assert stage.stalls == [("a", {WHOLE: Stall.NO_TOPIC}), ("b", {})]
    assert stage.brokers == [(True, ""), (True, "")]


def test_missing_topic_is_logged_once_for_each_reason(stage: Stage, warnings: list[str]) -> None:
    denied = TopicUnavailable(Stall.NOT_ALLOWED, "denied")
    for result in (MISSING, MISSING, denied, TOPIC, MISSING):
        stage.results["topic-a"] = result
        stage.look()
    assert warnings == ["a: no such topic", "a: denied", "a: no such topic"]


def test_without_brokers_only_one_topic_is_tried(stage: Stage) -> None:
    stage.results["topic-a"] = BrokersUnavailable("timed out")
    assert stage.look() == []
    assert stage.brokers == [(False, "timed out")]
    assert "topic-b" not in stage.known_epochs


@pytest.mark.parametrize(
    ("result", "complete"),
    [
        (TOPIC, True),
        (MISSING, False),
        (BrokersUnavailable("timed out"), False),
        (Topic("aaaa0000", ((0, 3), None), {1: Stall.NO_LEADER}), False),
    ],
)
def test_look_is_complete_if_every_partition_can_be_read(
    stage: Stage, result: Result, complete: bool
) -> None:
    stage.results["topic-a"] = result
    assert stage.discovery.look() == complete


def test_thread_looks_again_soon_while_something_is_missing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MISSING_SECONDS", 0.01)
    stage.results["topic-a"] = MISSING
    stage.discovery.start()
    eventually(lambda: stage.reported == [("b", TOPIC)], "the topic that exists")
    stage.results["topic-a"] = TOPIC
    eventually(lambda: ("a", TOPIC) in stage.reported, "the topic that was missing")
    stage.discovery.stop()
    stage.discovery.join(10)
    assert not stage.discovery.is_alive()


def test_complete_discovery_looks_again_on_request(stage: Stage) -> None:
    stage.discovery.start()
    eventually(lambda: len(stage.ends) == 2, "the first look")
    stage.discovery.look_now()
    eventually(lambda: len(stage.ends) == 4, "the second look")
    stage.discovery.look_again("a")
    eventually(lambda: len(stage.reported) == 3, "the topic once more")
    stage.discovery.stop()
    stage.discovery.join(10)
    assert not stage.discovery.is_alive()


def test_exception_in_a_look_ends_the_process_and_is_logged_once() -> None:
    # An unexpected exception in a thread that the process needs.
    script = (
        "import threading\n"
        "from energyws.logs import writer\n"
        "from energyws.settings import Kafka, Logging\n"
        "from workers.consumer.discovery import Discovery\n"
        "writer.configure(Logging(), 'consumer')\n"
        "class Admin:\n"
        "    def list_topics(self, name, timeout): raise ZeroDivisionError('unexpected')\n"
        "nothing = lambda *_: None\n"
        "Discovery(Admin(), Kafka(brokers='b'), {'s': 't'}, *[nothing] * 4).start()\n"
        "threading.Event().wait(30)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == ExitCode.FAILURE
    assert ended.stderr.count("ZeroDivisionError: unexpected") == 1
    assert " ERROR consumer failed" in ended.stderr


def test_no_thread_can_end_unnoticed() -> None:
    for each in pkgutil.walk_packages(workers.__path__, "workers."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
    kinds = threading.Thread.__subclasses__()
    threads = [each for each in kinds if each.__module__.startswith("workers.")]
    assert {each.__name__ for each in threads} >= {"Source", "Discovery", "HistoryServer"}
    # `crash_on_error` wraps each of them.
    assert [each for each in threads if not hasattr(each.run, "__wrapped__")] == []
