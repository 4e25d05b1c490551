from __future__ import annotations

import pytest

from energyws.control.config import load, rules
from tests.control.configs import AUTH, GOOD, problems_of

ONCE = (
    "list each topic once (one stream can give some clients all records, and others those of "
    "their keys: docs/keyed.md)"
)


@pytest.mark.parametrize(
    ("kafka", "problems"),
    [
        ("kafka: {brokers: b, topic: t}\nstreams: {energy: {topic: t}}", []),
        ("kafka: {brokers: b}\nstreams: {gas: {topic: t}, heat: {topic: u}}", []),
        (
            "kafka: {brokers: b}",
            ["c.yaml:2: kafka.topic: missing: set it to the topic to read, or set streams"],
        ),
        (
            "kafka: {brokers: b}\nstreams:",
            ["c.yaml:2: kafka.topic: missing: set it to the topic to read, or set streams"],
        ),
        (
            "kafka:\n  brokers: b\n  topic: t\nstreams: {energy: {topic: $(HOME)}}",
            [
                "c.yaml:4: kafka.topic: found t, but it is short for streams.energy.topic, "
                "which has $(HOME): remove one"
            ],
        ),
        *[
            (
                f"kafka: {{brokers: b}}\nstreams: {{'{name}': {{topic: t}}}}",
                [
                    f"c.yaml:3: streams.{name}: invalid name of a stream: "
                    "use 1 to 64 of a-z, 0-9, _, . and -"
                ],
            )
            for name in ("", "A", "a b", "é", "a/b", "x" * 65)
        ],
        (
            f"kafka: {{brokers: b}}\nstreams: {{{'x' * 64}: {{topic: t}}, a-b.c_1: {{topic: u}}}}",
            [],
        ),
        (
            "kafka: {brokers: b}\nstreams: {gas: }",
            ["c.yaml:3: streams.gas.topic: missing: set it to a non-empty string"],
        ),
        (
            "kafka: {brokers: b}\nstreams: {gas: {topic: t, key: record, access: keyed}}",
            [],
        ),
        (
            "kafka: {brokers: b}\nstreams: {gas: {topic: t, access: keyed}}",
            [
                "c.yaml:3: streams.gas.access: keyed needs streams.gas.key too: "
                "where the key of a record is"
            ],
        ),
        (
            "kafka: {brokers: b}\nstreams: {gas: {topic: t, snapshot: {enabled: true}}}",
            [
                "c.yaml:3: streams.gas.snapshot.enabled: needs streams.gas.key too: "
                "where the key of a record is"
            ],
        ),
        *[
            (
                f"kafka: {{brokers: b}}\nstreams: {{gas: {{topic: t, key: '{key}'}}}}",
                [f'c.yaml:3: streams.gas.key: found "{key}", which {problem}'],
            )
            for key, problem in [
                (
                    "tags.meter",
                    "is no place of a key: use record, header:NAME, or a JSON pointer such as /a/b",
                ),
                ("header:", "names no header: use header:NAME"),
                ("/a~b", "is no JSON pointer: write ~0 for ~, and ~1 for / in a name"),
            ]
        ],
        (
            "kafka: {brokers: b}\nstreams: {gas: {topic: t}, heat: {topic: t}}",
            [f"c.yaml:3: streams.heat.topic: same as streams.gas.topic: {ONCE}"],
        ),
        (
            "kafka: {brokers: b, topic: t}\nstreams: {households: {topic: t, key: record}}",
            [f"c.yaml:3: streams.households.topic: same as kafka.topic: {ONCE}"],
        ),
        (
            "kafka: {brokers: b, topic: t}\nstreams: {gas: {topic: t}, energy: {topic: t}}",
            [f"c.yaml:3: streams.energy.topic: same as streams.gas.topic: {ONCE}"],
        ),
        (
            "kafka: {brokers: b, topc: t}",
            ["c.yaml:2: kafka.topc: unknown key: did you mean kafka.topic?"],
        ),
    ],
)
def test_streams_have_names_and_one_topic_each(kafka: str, problems: list[str]) -> None:
    assert problems_of(AUTH + kafka, {"HOME": "h"}) == problems


@pytest.mark.parametrize(
    ("stream", "starts"),
    [
        ("key: record", []),
        ("key: /a//b", []),
        ("key: '/a/'", ["streams.gas.key: ends with /"]),
        ("key: '/'", ["streams.gas.key: ends with /"]),
        ("key: 'header:meter'", []),
        ("key: 'header: meter'", ["streams.gas.key: has white space"]),
        ("key: 'header:meter '", ["streams.gas.key: has white space"]),
        ("key: record, snapshot: {enabled: true, max_keys: 5}", []),
        ("key: record, snapshot: {enabled: false}", []),
        ("key: record, snapshot: {max_keys: 5}", ["streams.gas.snapshot: not used"]),
        ("snapshot: {lookback_seconds: null}", ["streams.gas.snapshot: not used"]),
    ],
)
def test_streams_that_are_probably_not_meant_so_are_warned_of(
    stream: str, starts: list[str]
) -> None:
    settings = load.parse(f"{GOOD}streams: {{gas: {{topic: g, {stream}}}}}\n", "c.yaml", {})

    warnings = rules.warnings(settings)

    assert len(warnings) == len(starts)
    assert all(map(str.startswith, warnings, starts))
