"""The table of exchanges, docs/contract/conformance.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["ok", "FAIL", "warn", "skip"]


@dataclass(frozen=True, slots=True)
class ServerCase:
    """What a server must do. needs: features that not every server has, see `probe`."""

    id: str
    rule: str
    steps: tuple[dict[str, Any], ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientCase:
    """What a client must do.

    promise: the line of docs/clients.md that says so. token: a text, or the outcomes of a function,
    call by call. asks: the keys that the client asks for, and whether for a snapshot. connections:
    the server's part, one per connection; the last one is repeated. expect: the client's part, as
    far as it can be seen.
    """

    id: str
    rule: str
    promise: str
    connections: tuple[dict[str, Any], ...]
    expect: dict[str, Any]
    token: str | tuple[str, ...] = "header.payload.signature"
    asks: dict[str, Any] = field(default_factory=dict)

    @property
    def has_function(self) -> bool:
        """Whether the client gets its tokens from a function."""
        return not isinstance(self.token, str)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a case. detail: why, unless it is `ok`; seen: what the other side said."""

    case: ServerCase | ClientCase
    verdict: Verdict
    detail: str = ""
    seen: list[Any] = field(default_factory=list, compare=False)


def result(case: ServerCase | ClientCase, fault: str | None, seen: list[Any]) -> Result:
    """The result of a case that was played: a SHOULD that is not kept is a warning."""
    if fault is None:
        return Result(case, "ok", seen=seen)
    return Result(case, "FAIL" if " MUST " in case.rule else "warn", fault, seen)


@cache
def _document() -> dict[str, Any]:
    # In a clone it is a link to docs/contract, in a wheel a copy.
    text = Path(__file__).with_name("conformance.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def server_cases() -> tuple[ServerCase, ...]:
    """Every case for servers."""
    return tuple(ServerCase(**_frozen(each)) for each in _document()["server"])


def client_cases() -> tuple[ClientCase, ...]:
    """Every case for clients."""
    return tuple(ClientCase(**_frozen(each)) for each in _document()["client"])


def _frozen(case: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in case.items()}
