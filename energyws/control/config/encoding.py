"""Texts that operators keep in files, whatever their editor puts around them."""

from __future__ import annotations

import codecs
from typing import Final

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotText(ValueError):
    """No text in UTF-8; the words say what it is instead."""


def text_of(data: bytes) -> str:
    """The text in a file, without the line end that editors and `echo` put after it.

    A byte order mark is a signature of the encoding, no part of the text (Unicode 23.8). Raises
    NotText.
    """
    if data.startswith(_UTF16) or b"\0" in data:
        raise NotText("it is not UTF-8 but, by its bytes, UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise NotText("it is not UTF-8") from None


def pem_fault(data: bytes) -> str | None:
    """What keeps OpenSSL from seeing all that is in a PEM file; None if nothing is known to."""
    if data.startswith(_UTF16) or b"\0" in data:
        return "is UTF-16 or binary: PEM is plain text"
    if (at := data.find(codecs.BOM_UTF8)) >= 0:
        # OpenSSL looks for ----- at the beginning of a line, and passes over any other in silence.
        line = data.count(b"\n", 0, at) + 1
        return f"has a byte order mark on line {line}, which hides what begins there: remove it"
    return None
