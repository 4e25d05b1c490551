"""Gets a schema with all that it refers to from the registry, and makes it one that can be used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Final, Protocol

from energyws.errors import BootError
from energyws.schemas.answers import (
    MAX_ANSWER_BYTES,
    MAX_REFERENCES,
    Document,
    Missing,
    Reference,
    Unavailable,
    path_of,
    path_of_version,
)
from energyws.schemas.framing import SchemaId
from energyws.schemas.values import BadSchema
from energyws.settings import Settings
from workers.consumer.schemas.registry import Registry

# What the registry calls each format that it is asked for.
KINDS: Final = {"avro": "AVRO", "protobuf": "PROTOBUF", "json_schema": "JSON"}
# The modules without which a format cannot be read.
_MODULES: Final = {
    "avro": ("fastavro",),
    "protobuf": ("google.protobuf", "grpc_tools"),
    "json_schema": (),
}


class Schema(Protocol):
    """Reads payloads; indexes: of the message, if it is Protobuf. Raises BadRecord.

    on_null is called with the number of values that JSON cannot express, if there are any.
    """

    def read(
        self, indexes: tuple[int, ...], payload: bytes, on_null: Callable[[int], None] = ...
    ) -> bytes: ...


def check_installed(settings: Settings) -> None:
    """Raises BootError if a stream's format needs what is not installed."""
    for name, stream in settings.streams.items():
        for module in _MODULES.get(stream.format, ()):
            if not _installed(module):
                raise BootError(
                    f"streams.{name}.format: {stream.format} needs {module}, which is not "
                    "installed: pip install 'energyws[schemas]'"
                )


def load(registry: Registry, form: str, schema_id: SchemaId, max_bytes: int) -> tuple[Schema, int]:
    """The schema, and the size of its texts. max_bytes: of a record's JSON.

    Raises BadSchema, Missing or Unavailable.
    """
    document = _document(registry, schema_id)
    if document.kind != KINDS[form]:
        raise BadSchema(f"it is of type {document.kind}, and the stream's format is {form}")
    references = _references(registry, document)
    size = len(document.text) + sum(map(len, references.values()))
    # Imported here: services of JSON do without both libraries.
    if form == "avro":
        from energyws.schemas.avro import AvroSchema

        texts = list(references.values())
        return AvroSchema(document.text, texts, max_bytes=max_bytes), size
    from energyws.schemas.protobuf import ProtobufSchema
    from workers.consumer.schemas.protoc import compile_descriptors

    descriptors = compile_descriptors(document.text, references)
    return ProtobufSchema(descriptors, max_bytes=max_bytes), size


def _document(registry: Registry, schema_id: SchemaId) -> Document:
    try:
        return registry.document(path_of(schema_id))
    except Unavailable as unavailable:
        if isinstance(schema_id, int) or not unavailable.no_path:
            raise
    # Most registries have no schemas by GUID. That it knows, or does not know, some id tells one
    # from another server: garbage must not stop a partition for ever.
    with suppress(Missing):
        registry.document(path_of(1))
    raise Missing("the registry has no schemas by GUID")


def _references(registry: Registry, document: Document) -> dict[str, str]:
    """The texts of all that a schema refers to, by name; what others need comes first."""
    texts: dict[str, str] = {}
    fetched: dict[Reference, Document] = {}
    size = 0
    # A reference, and whether all that it refers to is in `texts`.
    pending = [(each, False) for each in document.references]
    while pending:
        reference, done = pending.pop()
        if done:
            texts[reference.name] = fetched[reference].text
        elif reference not in fetched:
            if len(fetched) == MAX_REFERENCES:
                raise BadSchema(f"it refers to more than {MAX_REFERENCES} others")
            path = path_of_version(reference.subject, reference.version)
            found = fetched[reference] = registry.document(path)
            size += len(found.text)
            if size > MAX_ANSWER_BYTES:
                raise BadSchema(f"what it refers to has more than {MAX_ANSWER_BYTES} bytes")
            pending.append((reference, True))
            pending += [(each, False) for each in found.references]
    return texts


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
