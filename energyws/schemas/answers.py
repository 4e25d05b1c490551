"""What a registry answers, and what it means: a schema, that there is none, or nothing at all.

Confluent's REST API, which those of Redpanda, Karapace and Apicurio (ccompat) have too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from energyws.errors import EnergywsError
from energyws.schemas.framing import SchemaId
from energyws.schemas.values import shown

# Of one schema, with what these refer to.
MAX_REFERENCES: Final = 200
MAX_ANSWER_BYTES: Final = 4 << 20
# What is so for all schemas: a refused user, too many questions, a registry overloaded or away.
_UNREACHABLE: Final = (401, 429, 502, 503, 504)
# What servers answer to a path that they do not have.
_NO_PATH: Final = (400, 404, 405, 422)
# "Subject", "version" and "schema not found": any other 404 is of a wrong address or of a proxy.
_NOT_FOUND: Final = (40401, 40402, 40403)


class Unavailable(EnergywsError):
    """The registry did not answer, or not as a registry would: ask again.

    misconfigured: it will answer the same until somebody changes the configuration.
    no_path: there is nothing at the path, which the registry may be too old to have.
    """

    def __init__(self, reason: str, *, misconfigured: bool = False, no_path: bool = False) -> None:
        super().__init__(shown(reason))
        self.misconfigured = misconfigured
        self.no_path = no_path


class Unreachable(Unavailable):
    """The registry answers nobody: other questions would end as this one."""


class Missing(EnergywsError):
    """The registry knows no such schema."""


class Reference(NamedTuple):
    """name: by which the schema refers to it."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Document:
    """A schema as the registry has it. kind: AVRO, JSON or PROTOBUF."""

    text: str
    kind: str
    references: tuple[Reference, ...] = ()


def path_of(schema_id: SchemaId) -> str:
    """Where to ask for a schema by its id or GUID."""
    return f"/schemas/{'ids' if isinstance(schema_id, int) else 'guids'}/{schema_id}"


def path_of_version(subject: str, version: int | str) -> str:
    """Where to ask for a version of a subject: a number, deleted or not, or the `latest` one."""
    path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
    return path if version == "latest" else f"{path}?deleted=true"


def document(status: int, body: bytes) -> Document:
    """The schema in an answer; raises Missing or Unavailable."""
    answer = _parsed(body)
    if status == 404 and isinstance(answer, dict) and answer.get("error_code") in _NOT_FOUND:
        raise Missing("the registry does not know it")
    unavailable = Unreachable if status in _UNREACHABLE else Unavailable
    if status in (401, 403):
        raise unavailable(
            f"HTTP status {status}: check schema_registry.username and its password",
            misconfigured=True,
        )
    if status == 404 or 300 <= status < 400:
        raise unavailable(
            f"HTTP status {status}, not from a schema registry: check schema_registry.url",
            misconfigured=True,
            no_path=status in _NO_PATH,
        )
    if status != 200:
        raise unavailable(f"HTTP status {status}", no_path=status in _NO_PATH)
    try:
        return Document(
            _text(answer["schema"]),
            _text(answer.get("schemaType") or "AVRO"),
            tuple(
                Reference(_text(each["name"]), _text(each["subject"]), int(each["version"]))
                for each in answer.get("references") or ()
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unavailable(
            "the answer is not that of a schema registry: check schema_registry.url",
            misconfigured=True,
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
