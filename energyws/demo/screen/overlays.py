"""What the demo's screen shows on a key, instead of the figures."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from energyws.demo.screen.links import Links
from energyws.demo.screen.qr import qr_lines

_HELP: Final = """\
What runs here

A Kafka broker and simulated smart meters, the real service with its workers, and clients that \
receive every reading. Everything ends with this screen, and nothing is left behind.

p   kills a worker that has clients with SIGKILL, as a crash would. Its clients connect to \
another worker and resume after their last reading; the holes in the charts close. The line \
"lost" counts by Kafka's offsets, not by what service or clients claim.
u   shows the page's link with its token, a QR code for a phone, and the commands to connect with.
?   shows this help; any other key leaves it.
q   ends the demo, like Ctrl-C.

CPU: 100% is one core. delay: from the meter's timestamp to the client, of the last 30 seconds, \
including what came late after a pause."""
_UNREACHABLE: Final = (
    "A phone cannot reach this demo. Start it with --host and this machine's address in your "
    "network (--host 0.0.0.0: every address), and this key shows a QR code."
)
_DARK_ON_LIGHT: Final = "#000000 on #ffffff"


def help_lines(width: int) -> list[Text]:
    """The help, in lines of at most `width` characters."""
    lines = [
        line for paragraph in _HELP.split("\n") for line in wrapped(paragraph, width) or [Text()]
    ]
    lines[0].stylize("bold")
    return lines


def link_lines(links: Links, width: int, height: int) -> list[Text]:
    """The links and commands in full; the QR code, if there is room for it, comes first.

    The terminal opens the whole link at a click, and a link without spaces is selected as one
    even where it takes several lines.
    """
    phone = links.page_for_phone
    code = [] if phone is None else qr_lines(phone)
    lines: list[Text] = []
    if phone is None:
        lines += wrapped(_UNREACHABLE, width)
    elif len(code) <= height and len(code[0]) <= width:
        # Nothing beside it: the code needs nearly all lines of most terminals.
        return [Text(line, _DARK_ON_LIGHT) for line in code]
    else:
        lines += wrapped(
            f"The QR code needs {len(code) + 2} lines of {len(code[0])} characters: "
            "enlarge the terminal.",
            width,
        )
    target = links.page_with_token if phone is None else phone
    lines += [Text(), Text("page", "bold")]
    for line in _cut(target, width):
        line.stylize(f"link {target}")
        lines.append(line)
    commands = {
        "wscat": links.wscat,
        "curl": links.curl,
        "tail": links.tail,
        "one meter": links.one_meter,
        "top": [links.top],
    }
    for label, command in commands.items():
        lines += [Text(), Text(label, "bold")]
        lines += [part for line in command for part in _cut(line, width)]
    return lines


def _cut(text: str, width: int) -> list[Text]:
    """Cut anywhere: a space or a hyphen more would be part of what people copy."""
    return [Text(text[at : at + width]) for at in range(0, len(text), max(1, width))]


def wrapped(text: str, width: int) -> list[Text]:
    """The text in lines of at most `width` characters, broken between words."""
    return list(Text(text).wrap(Console(width=width), width))
