"""The settings of every process: frozen dataclasses, units in the names, defaults in one place.

Only the supervisor validates them (energyws.control.config). Children read them from an inherited
descriptor and rebuild them (energyws.settings_json) without a validation library, which keeps them
small.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from energyws.settings.clients import Auth as Auth
from energyws.settings.clients import Issuer as Issuer
from energyws.settings.clients import Limits as Limits
from energyws.settings.clients import Server as Server
from energyws.settings.clients import Tls as Tls
from energyws.settings.processes import Admin as Admin
from energyws.settings.processes import Bus as Bus
from energyws.settings.processes import History as History
from energyws.settings.processes import Logging as Logging
from energyws.settings.processes import Supervision as Supervision
from energyws.settings.sources import Kafka as Kafka
from energyws.settings.sources import SchemaRegistry as SchemaRegistry
from energyws.settings.sources import Snapshot as Snapshot
from energyws.settings.sources import Stream as Stream
from energyws.settings.types import KIB as KIB
from energyws.settings.types import MAX_RECORD_BYTES as MAX_RECORD_BYTES
from energyws.settings.types import MAX_WORKERS as MAX_WORKERS
from energyws.settings.types import MIB as MIB
from energyws.settings.types import STRICT, Text
from energyws.settings.types import Level as Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `streams` is never empty after loading."""

    __pydantic_config__ = STRICT

    kafka: Kafka
    streams: dict[Text, Stream] = field(default_factory=dict)
    schema_registry: SchemaRegistry = field(default_factory=SchemaRegistry)
    server: Server = field(default_factory=Server)
    limits: Limits = field(default_factory=Limits)
    auth: Auth = field(default_factory=Auth)
    history: History = field(default_factory=History)
    bus: Bus = field(default_factory=Bus)
    supervision: Supervision = field(default_factory=Supervision)
    admin: Admin = field(default_factory=Admin)
    log: Logging = field(default_factory=Logging)
