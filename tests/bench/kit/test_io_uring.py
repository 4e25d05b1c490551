from __future__ import annotations

import argparse

import pytest

from bench.kit.io_uring import add_argument, said, settings
from energyws.process.io_uring import IoUring


@pytest.mark.parametrize(
    ("boards", "text"),
    [
        ({}, ""),
        ({"consumer": {"io_uring": 0}}, ""),
        ({"worker-0": {"io_uring": IoUring.IN_USE}}, "in_use"),
        # A worker that has just started, and one of a revision without io_uring.
        ({"worker-0": {"io_uring": IoUring.IN_USE}, "worker-1": {"io_uring": 0}}, "in_use"),
        ({"worker-0": {}}, ""),
        (
            {"worker-0": {"io_uring": IoUring.FAILED}, "worker-1": {"io_uring": IoUring.IN_USE}},
            "in_use, failed",
        ),
    ],
)
def test_what_workers_say(boards: dict[str, dict[str, int]], text: str) -> None:
    assert said(boards) == text


@pytest.mark.parametrize(
    ("arguments", "plain", "tls"),
    [
        ([], ["auto", "off"], ["auto"]),
        (["--io-uring", "off"], ["off"], ["off"]),
        (["--io-uring", "off", "--io-uring", "auto"], ["auto", "off"], ["auto"]),
    ],
)
def test_settings_to_compare(arguments: list[str], plain: list[str], tls: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_argument(parser)
    options = parser.parse_args(arguments)
    assert (settings(options, tls=False), settings(options, tls=True)) == (plain, tls)
