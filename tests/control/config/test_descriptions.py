from __future__ import annotations

import pytest

from energyws.control.config import descriptions
from energyws.settings import Bus, Tls


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("server", "host"), "listen address"),
        (("server", "pong_timeout_seconds"), "seconds that a client has to answer a ping"),
        (("kafka", "options"), "passed to librdkafka unchanged"),
        (("streams", "name", "topic"), "the topic of this stream, with all its partitions"),
        (("kafka", "options", "name"), ""),
    ],
)
def test_description_of_a_key(path: tuple[str, ...], text: str) -> None:
    assert descriptions.of_key(path) == text


def test_description_of_a_section_is_its_first_sentence() -> None:
    assert descriptions.of_section(Bus).startswith("The ZeroMQ link between")
    assert descriptions.of_section(Tls | None).startswith("Paths of a PEM certificate chain")
