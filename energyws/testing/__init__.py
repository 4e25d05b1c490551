"""For tests against a real energyws: a broker, the service, a token issuer and a faulty proxy.

It needs nothing but energyws: no test framework, and no Docker. docs/clients.md has an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from energyws.testing.broker_process import FAST_FETCH as FAST_FETCH
    from energyws.testing.broker_process import PARTITIONS as PARTITIONS
    from energyws.testing.broker_process import BrokerProcess as BrokerProcess
    from energyws.testing.brokers import Broker as Broker
    from energyws.testing.brokers import ExternalBroker as ExternalBroker
    from energyws.testing.brokers import any_broker as any_broker
    from energyws.testing.issuer import Issuer as Issuer
    from energyws.testing.kafka_broker import KafkaBroker as KafkaBroker
    from energyws.testing.proxy import TcpProxy as TcpProxy
    from energyws.testing.records import Records as Records
    from energyws.testing.records import Traffic as Traffic
    from energyws.testing.registry import SchemaRegistry as SchemaRegistry
    from energyws.testing.service import SECRET as SECRET
    from energyws.testing.service import Service as Service
    from energyws.testing.service import config as config
    from energyws.testing.service import token as token
    from energyws.testing.waiting import PATIENCE_SECONDS as PATIENCE_SECONDS
    from energyws.testing.waiting import eventually as eventually
    from energyws.testing.waiting import until as until

_MODULES = {
    "Broker": "brokers",
    "BrokerProcess": "broker_process",
    "ExternalBroker": "brokers",
    "FAST_FETCH": "broker_process",
    "Issuer": "issuer",
    "KafkaBroker": "kafka_broker",
    "PARTITIONS": "broker_process",
    "PATIENCE_SECONDS": "waiting",
    "Records": "records",
    "SECRET": "service",
    "SchemaRegistry": "registry",
    "Service": "service",
    "TcpProxy": "proxy",
    "Traffic": "records",
    "any_broker": "brokers",
    "config": "service",
    "eventually": "waiting",
    "token": "service",
    "until": "waiting",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the embedded broker's process needs nothing of the rest, and starts
    # twice as fast without it.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
