"""A QR code for a phone's camera, in characters."""

from __future__ import annotations

from typing import Final

import segno

# The standard's margin is four modules; cameras need one or two, and lines are scarce.
_MARGIN: Final = 2
# The upper and the lower module of one character: dark or not.
_HALVES: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def qr_lines(text: str) -> list[str]:
    """The code in lines of equal width; two modules above each other are one character.

    A filled half is dark, so it needs a dark foreground on a light background.
    """
    code = segno.make_qr(text, error="l", boost_error=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=_MARGIN)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    return [
        "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
