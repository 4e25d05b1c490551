"""Help and links on the demo's screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyws.demo.screen.overlays import help_lines, link_lines
from energyws.demo.screen.qr import qr_lines
from tests.demo.screen.test_links import links


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_lines_fit_and_nothing_is_cut_off(width: int, tmp_path: Path) -> None:
    found = links(tmp_path, token=150 * "t")
    for lines in (help_lines(width), link_lines(found, width, 100)):
        assert max(line.cell_len for line in lines) <= width
    text = "".join(line.plain for line in link_lines(found, width, 100))
    assert found.page_with_token in text
    for command in (*found.wscat, *found.curl, *found.tail, *found.one_meter, found.top):
        assert command in text
    (once,) = {link for line in link_lines(found, width, 100) for link in targets(line)}
    assert once == f"link {found.page_with_token}"


def test_loopback_says_what_to_start_instead(tmp_path: Path) -> None:
    text = " ".join(line.plain for line in link_lines(links(tmp_path), 200, 50))
    assert "--host 0.0.0.0" in text


def test_code_for_a_phone_is_shown_whole_or_not_at_all(tmp_path: Path) -> None:
    found = links(tmp_path, outside="192.0.2.7")
    assert found.page_for_phone is not None
    code = qr_lines(found.page_for_phone)
    exact = link_lines(found, len(code[0]), len(code))
    assert [line.plain for line in exact] == code
    # Dark on light, whatever the terminal's colours are.
    assert {str(line.style) for line in exact} == {"#000000 on #ffffff"}
    for width, height in ((len(code[0]) - 1, 50), (200, len(code) - 1)):
        text = "".join(line.plain for line in link_lines(found, width, height))
        assert "enlarge the terminal" in text.replace("  ", " ")
        assert found.page_for_phone in text


def targets(line: object) -> list[str]:
    spans = getattr(line, "spans", [])
    return [str(span.style) for span in spans if str(span.style).startswith("link ")]
