"""The deny list as workers find it, whatever happens to the operator's file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from energyws.auth.denied import FILE_NAME, MAX_DENIED_BYTES, parse
from energyws.control.reload.deny_list import DenyList
from energyws.process.board import Board, Field, Row
from energyws.process.counters import RELOAD_REFUSALS
from energyws.settings import Auth, Kafka, Settings

SKIPPED = "deny list has lines that cannot be used: earlier entries stay"


class Play:
    """A deny list, with the operator's file beside the run's directory."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "denied.jsonl"
        self.run = tmp_path / "run"
        self.row: Row = Board.create().row(0)
        self.list = DenyList(self.run, self.row)
        self.settings = Settings(kafka=Kafka(brokers="b"), auth=Auth(denied_file=str(self.file)))

    def publish(self, *lines: str) -> list[str | None]:
        """The ids and subjects that workers find once the file has these lines."""
        self.file.write_text("\n".join(lines))
        return self.published()

    def published(self) -> list[str | None]:
        self.list.publish(self.settings)
        return self.copied()

    def copied(self) -> list[str | None]:
        entries, bad = parse((self.run / FILE_NAME).read_bytes())
        assert bad == []
        return [each.jti or each.sub for each in entries]

    @property
    def refusals(self) -> int:
        found = RELOAD_REFUSALS.read(self.row.columns())["deny_list",]
        assert found == self.row[Field.RELOADS_REFUSED]
        return found


@pytest.fixture
def play(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Play:
    caplog.set_level(logging.INFO, "energyws.config")
    return Play(tmp_path)


def test_entries_are_published_and_replaced(play: Play) -> None:
    assert play.publish() == []
    assert play.publish('{"jti": "1"}', "# why", '{"sub": "me", "before": 5}') == ["1", "me"]
    assert play.publish('{"jti": "2"}') == ["2"]
    assert play.publish("") == []


def test_bad_lines_are_reported_and_let_nobody_in(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    play.publish('{"jti": "1"}', '{"jti": "2"}')
    # The good lines count, and so does what the damaged ones may have been.
    assert play.publish('{"jti": "1"}', '{"jti": "canary', '{"sub": "me"}', "x") == ["1", "2", "me"]
    assert play.publish("canary") == ["1", "2", "me"]
    first, second = (each for each in caplog.records if each.getMessage() == SKIPPED)
    fields = vars(first)["energyws_fields"]
    assert (fields["count"], fields["lines"]) == (2, "2,4")
    assert fields["reason"] == "not a JSON object"
    assert vars(second)["energyws_fields"]["lines"] == "1"
    assert "canary" not in " ".join(repr(vars(record)) for record in caplog.records)
    assert play.refusals == 2
    # Once it is mended, only what is in it counts.
    assert play.publish('{"jti": "3"}') == ["3"]


def test_many_bad_lines_are_one_line_of_the_log(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    play.publish(*["x"] * 1000)
    (record,) = (each for each in caplog.records if each.getMessage() == SKIPPED)
    assert vars(record)["energyws_fields"]["lines"] == "1,2,3,4,5,6,7,8,9,10"


def test_file_that_has_gone_changes_nothing(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    play.publish('{"jti": "1"}')
    play.file.unlink()
    assert play.published() == ["1"]
    assert caplog.records[-1].getMessage() == "deny list not read: earlier entries stay"
    assert play.refusals == 1


def test_file_that_is_too_large_changes_nothing(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    play.publish('{"jti": "1"}')
    assert play.publish("#" * (MAX_DENIED_BYTES + 1)) == ["1"]
    fields = vars(caplog.records[-1])["energyws_fields"]
    assert fields["reason"] == f"it has more than {MAX_DENIED_BYTES} bytes"
    assert play.refusals == 1


def test_file_is_read_again_when_it_has_changed_and_settled(play: Play) -> None:
    play.publish('{"jti": "1"}')
    play.file.write_text('{"jti": "22"}')
    play.list.look(play.settings, 10.0)
    # Too early, and then it looks the same twice in a row.
    play.list.look(play.settings, 10.1)
    assert play.copied() == ["1"]
    play.list.look(play.settings, 11.0)
    assert play.copied() == ["22"]
    replacement = play.file.with_name("new")
    replacement.write_text('{"jti": "33"}')
    replacement.replace(play.file)
    play.list.look(play.settings, 12.0)
    play.list.look(play.settings, 13.0)
    assert play.copied() == ["33"]


def test_copy_that_a_cleaner_removed_is_made_again(play: Play) -> None:
    play.publish('{"jti": "1"}')
    (play.run / FILE_NAME).unlink()
    play.run.rmdir()
    play.list.look(play.settings, 10.0)
    assert play.copied() == ["1"]


def test_copy_that_cannot_be_made_is_tried_again_with_patience(play: Play) -> None:
    play.publish('{"jti": "1"}')
    (play.run / FILE_NAME).unlink()
    play.run.rmdir()
    play.run.write_text("in the way")
    for now in (10.0, 11.0, 12.0):
        play.list.look(play.settings, now)
    assert play.refusals == 1
    play.run.unlink()
    play.list.look(play.settings, 40.0)
    assert play.copied() == ["1"]


def test_list_ends_with_its_setting(play: Play) -> None:
    play.publish('{"jti": "1"}')
    without = Settings(kafka=Kafka(brokers="b"))
    play.list.publish(without)
    assert not (play.run / FILE_NAME).exists()
    play.list.publish(without)
    play.list.look(without, 10.0)
    assert not (play.run / FILE_NAME).exists()
