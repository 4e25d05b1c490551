"""Every class of faults: importing this registers them all."""

from __future__ import annotations

from bench.faults import (
    broker_faults,
    bus_faults,
    client_faults,
    machine_faults,
    operator_faults,
    process_faults,
    restart_faults,
)
from bench.faults.fault import FAULTS

__all__ = [
    "FAULTS",
    "broker_faults",
    "bus_faults",
    "client_faults",
    "machine_faults",
    "operator_faults",
    "process_faults",
    "restart_faults",
]
