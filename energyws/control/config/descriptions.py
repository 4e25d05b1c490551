"""A sentence for each key, taken from the comments of the example file.

A key that is commented out there has its comment behind it, any other one above it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from energyws.control.config import load, schema, yaml_tree
from energyws.control.config.problems import KeyPath, Problems

_COMMENTED_OUT: Final = re.compile(r"^( *)#(?=[a-z])")
_ABOVE: Final = re.compile(r" *# (.+)")
_BEHIND: Final = re.compile(r".*  # (?:not set: )?(.+)")
# What the example has on the line of another key.
_INSIDE: Final[dict[KeyPath, str]] = {
    ("server", "tls", "cert"): "path of the certificate chain, in PEM",
    ("server", "tls", "key"): "path of the certificate's private key, in PEM and not encrypted",
    ("server", "tls", "session_tickets"): (
        "whether clients may resume TLS sessions, with any worker; see docs/security.md"
    ),
    ("auth", "issuers", 0, "name"): "the issuer's name in log lines and metrics",
    ("auth", "issuers", 0, "issuer"): "the required `iss`",
    ("auth", "issuers", 0, "jwks_url"): "URL of the issuer's public keys",
    ("streams", "name", "topic"): "the topic of this stream, with all its partitions",
    ("streams", "name", "format"): (
        "what its records are: JSON, or what the serializers of a schema registry make of Avro, "
        "JSON Schema or Protobuf (docs/schemas.md)"
    ),
    ("streams", "name", "key"): (
        "where a record's key is: record (Kafka's own), header:NAME, or a JSON pointer into the "
        "value, such as /tags/meter; without it, the stream has no keys (docs/keyed.md)"
    ),
    ("streams", "name", "access"): (
        "open: clients may have all records; keyed: those only whose keys their token names "
        "(docs/keyed.md)"
    ),
    ("streams", "name", "snapshot"): (
        "the newest record of each key, in the consumer's memory, for clients that ask for it"
    ),
    ("streams", "name", "snapshot", "enabled"): "whether clients may ask for it; needs key",
    ("streams", "name", "snapshot", "max_keys"): (
        "keys in it; beyond them, those that were unchanged for longest are dropped"
    ),
    ("streams", "name", "snapshot", "max_bytes"): "bytes of memory that it may take, the same",
    ("streams", "name", "snapshot", "lookback_seconds"): (
        "seconds: how old the records are that the start reads for it; null, or a compacted topic: "
        "all records"
    ),
    ("streams", "name", "snapshot", "wait_seconds"): (
        "seconds that a client waits at most until that has been read"
    ),
}


def of_key(path: KeyPath) -> str:
    """What the key is for; empty for what the operator names: an option of librdkafka."""
    return _INSIDE.get(path) or _in_example().get(path, "")


def of_section(kind: Any) -> str:
    """What a section is for: the first sentence of its class."""
    text = " ".join((schema.alternatives(kind)[0].__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".") + "."


@cache
def _in_example() -> dict[KeyPath, str]:
    lines = load.example().splitlines()
    locations = Problems("")
    yaml_tree.read("\n".join(_COMMENTED_OUT.sub(r"\1", line) for line in lines), locations)
    found = {}
    for path in schema.known_keys():
        _, number = locations.location(path).rank
        line, above = lines[number - 1], lines[number - 2]
        comment = _BEHIND.match(line) if _COMMENTED_OUT.match(line) else _ABOVE.match(above)
        if comment is not None and locations.has(path):
            found[path] = comment[1]
    return found
