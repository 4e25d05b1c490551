"""Every class of faults: importing this registers them all."""

from bench.faults.classes import broker, bus, client, machine, operator, process, restart
from bench.faults.fault import FAULTS

__all__ = ["FAULTS", "broker", "bus", "client", "machine", "operator", "process", "restart"]
