"""All classes of faults: importing this package registers them."""

from bench.faults.classes import broker, bus, client, machine, operator, process, restart
from bench.faults.fault import FAULTS

__all__ = ["FAULTS", "broker", "bus", "client", "machine", "operator", "process", "restart"]
