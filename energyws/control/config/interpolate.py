"""`$(VAR)` inside a text becomes the value of an environment variable; `$$(` stays `$(`.

A variable's value is data: it is neither scanned again nor read as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(r"\$\$\(|\$\((?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\))?")


def interpolate(text: str, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with the values of its variables, and the faults of those that have none."""
    faults: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if match[0] == "$$(":
            return "$("
        if name is None:
            faults.append("$( begins a variable: write $(NAME), or $$( for a literal $(")
            return match[0]
        if not env.get(name):
            state = "empty" if name in env else "not set"
            faults.append(
                f"the environment variable {name} is {state}: "
                f"give it a value, as in `export {name}=…`, or write $$({name}) for the text itself"
            )
        return env.get(name, "")

    return _TOKEN.sub(fill, text), faults


def escape(text: str) -> str:
    """The text that interpolates to `text`, whatever the environment."""
    return text.replace("$(", "$$(")
