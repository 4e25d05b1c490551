"""Whatever comes between, a partition that waits for schemas loses no record, and repeats none."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energyws.process.stalls import Stall
from tests.workers.consumer.fake_consumer import EPOCH, Stage
from workers.consumer.events import Records, RecordsLost, TopicFound
from workers.consumer.metadata import Topic

PARTITIONS = 3
NO_LEADER = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)

partitions = st.integers(0, PARTITIONS - 1)
happenings = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["awaited", "known", "trimmed"]), partitions, st.integers(0, 30)),
        st.tuples(st.just("written"), partitions, st.integers(1, 8)),
        st.tuples(st.sampled_from(["fails", "mends", "seen", "created anew"]), partitions),
        st.tuples(st.just("later"), st.integers(1, 30)),
    ),
    max_size=30,
)


class Play:
    """A topic to which things happen, and what has become of the records of each partition."""

    def __init__(self, stage: Stage) -> None:
        self.at = stage
        self.epochs = [EPOCH]
        # Where each goes on, by the events.
        self.next: list[int] = []
        self.look()

    @property
    def logs(self) -> list[tuple[int, int]]:
        return self.at.consumer.logs

    def happens(self, what: str, *numbers: int) -> None:
        at, consumer = self.at, self.at.consumer
        partition = numbers[0] % PARTITIONS
        low, high = self.logs[partition]
        match what:
            case "awaited":
                at.schemas.awaited.add((partition, numbers[1]))
            case "known":
                at.schemas.awaited.discard((partition, numbers[1]))
            case "written":
                self.logs[partition] = low, high + numbers[1]
            case "trimmed":
                self.logs[partition] = max(low, min(high, numbers[1])), high
            case "fails":
                consumer.faults[partition] = NO_LEADER
            case "mends":
                consumer.faults.pop(partition, None)
            case "later":
                at.now += numbers[0]
            case "created anew":
                self.epochs.append(f"epoch{len(self.epochs)}")
                self.logs[:] = [(0, 0)] * PARTITIONS
                consumer.reported.clear()
                consumer.queue.clear()
        if what in ("seen", "created anew"):
            self.look()
        self.turn()

    def look(self) -> None:
        """Discovery looks."""
        failing = self.at.consumer.faults.keys()
        ends = tuple(None if p in failing else each for p, each in enumerate(self.logs))
        stalls = dict.fromkeys(failing, Stall.NO_LEADER)
        self.at.discovery.on_topic("s", Topic(self.epochs[-1], ends, stalls))

    def turn(self) -> None:
        """The source runs until nothing more happens; what it reads comes in order."""
        before = -1
        while len(self.at.events) != before:
            before = len(self.at.events)
            for _ in range(3):
                self.at.source.step()
        for event in self.at.events:
            match event:
                case TopicFound():
                    self.next = list(event.begin)
                case RecordsLost():
                    assert event.begin == self.next[event.partition]
                    self.next[event.partition] = event.end
                case Records():
                    for record in event.records:
                        assert record.offset == self.next[record.partition]
                        self.next[record.partition] += 1
                    self.at.source.done()
        self.at.events.clear()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings)
def test_every_record_is_read_once_and_in_order(
    stage: Any, what: list[tuple[str, int, int] | tuple[str, int]]
) -> None:
    play = Play(stage([(0, 0)] * PARTITIONS))
    play.turn()
    for each in what:
        play.happens(*each)
    play.at.schemas.awaited.clear()
    play.at.consumer.faults.clear()
    for _ in range(4):
        play.happens("later", 60)
        play.happens("seen", 0)
    assert play.next == [high for _, high in play.logs]
