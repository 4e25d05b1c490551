"""The AsyncAPI document, as tests read it."""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.contract.schemas import CONTRACT

FILE: Final = CONTRACT / "asyncapi.yaml"
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())
MESSAGES: Final[dict[str, Any]] = DOCUMENT["components"]["messages"]
# The client's messages, each with the messages of which one answers it.
REPLIES: Final = {
    name: [each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]]
    for name, operation in DOCUMENT["operations"].items()
    if operation["action"] == "receive"
}


def examples(*names: str) -> dict[str, Any]:
    """The examples of these messages, of all by default."""
    return {
        f"{name}-{example['name']}": example["payload"]
        for name in names or MESSAGES
        for example in MESSAGES[name]["examples"]
    }
