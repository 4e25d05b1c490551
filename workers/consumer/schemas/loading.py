"""Gets a schema with all that it refers to from the registry, and makes it one that can be used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Protocol

from energyws.errors import BootError
from energyws.schemas.answers import (
    MAX_REFERENCES,
    Document,
    Reference,
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
    """Reads payloads; indexes: of the message, if it is Protobuf. Raises BadRecord."""

    def read(self, indexes: tuple[int, ...], payload: bytes) -> bytes: ...


def check_installed(settings: Settings) -> None:
    """Raises BootError if a stream's format needs what is not installed."""
    for name, stream in settings.streams.items():
        for module in _MODULES.get(stream.format, ()):
            if not _installed(module):
                raise BootError(
                    f"streams.{name}.format: {stream.format} needs {module}, which is not "
                    "installed: pip install 'energyws[schemas]'"
                )


def load(registry: Registry, form: str, schema_id: SchemaId, max_bytes: int) -> Schema:
    """The schema; raises BadSchema, Missing or Unavailable. max_bytes: of a record's JSON."""
    document = registry.document(path_of(schema_id))
    if document.kind != KINDS[form]:
        raise BadSchema(f"it is of type {document.kind}, and the stream's format is {form}")
    references = _references(registry, document)
    # Imported here: services of JSON do without both libraries.
    if form == "avro":
        from energyws.schemas.avro import AvroSchema

        return AvroSchema(document.text, list(references.values()), max_bytes=max_bytes)
    from energyws.schemas.protobuf import ProtobufSchema
    from workers.consumer.schemas.protoc import compile_descriptors

    descriptors = compile_descriptors(document.text, references)
    return ProtobufSchema(descriptors, max_bytes=max_bytes)


def _references(registry: Registry, document: Document) -> dict[str, str]:
    """The texts of all that a schema refers to, by name; what others need comes first."""
    texts: dict[str, str] = {}
    fetched: dict[Reference, Document] = {}
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
            pending.append((reference, True))
            pending += [(each, False) for each in found.references]
    return texts


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
