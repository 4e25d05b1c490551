"""QR codes in characters."""

from __future__ import annotations

import segno

from energyws.demo.screen.qr import qr_lines

DARK = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}


def test_characters_are_the_modules_of_the_code() -> None:
    text = "http://192.168.1.10:8080/#token=eyJ"
    lines = qr_lines(text)
    assert len({len(line) for line in lines}) == 1
    rows = [[DARK[character][half] for character in line] for line in lines for half in (0, 1)]
    expected = [list(row) for row in segno.make_qr(text, error="l", boost_error=False).matrix]
    margin = 2
    inner = [row[margin:-margin] for row in rows[margin : margin + len(expected)]]
    assert inner == expected
    assert not any(map(any, rows[:margin] + rows[margin + len(expected) :]))


def test_link_with_a_token_needs_fewer_than_thirty_lines() -> None:
    link = "http://192.168.100.100:8080/#token=" + 150 * "x"
    assert len(qr_lines(link)) < 30
