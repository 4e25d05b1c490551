"""Messages as lines of JSON."""

from __future__ import annotations

import orjson

from energyws.protocol import frame, json_lines
from energyws.protocol.frame import DataFrames

FRAMES = DataFrames("energy")


def test_each_frame_is_a_line() -> None:
    built = FRAMES.build(0, b'{\n"n":\r\n1}', "ab-1") + frame.lagged("energy", 1, None, "ab-2", "X")
    lines = json_lines.encode(built).splitlines()
    assert [orjson.loads(line)["type"] for line in lines] == ["data", "lagged"]
    assert orjson.loads(lines[0])["data"] == {"n": 1}


def test_position_of_a_line_is_the_one_of_the_service() -> None:
    data = FRAMES.build(0, b'{"a":[{"id":"7"}],"id":"no"}', "ab-1.2")
    keyed = FRAMES.build(0, b'{"id":"no"}', "ab-2.2", b'k\\","id":\\"')
    removed = FRAMES.removed(0, "ab-2.3", b"k")
    gap = frame.lagged("energy", 1, None, "ab-3.4", "LAGGED")
    lines = json_lines.encode(data + keyed + removed + gap).splitlines()
    found = [json_lines.position(line) for line in lines]
    assert found == [b"ab-1.2", b"ab-2.2", b"ab-2.3", b"ab-3.4"]


def test_own_message_is_one_line() -> None:
    assert json_lines.line({"type": "end"}) == b'{"type":"end"}\n'
