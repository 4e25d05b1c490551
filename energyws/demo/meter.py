"""A SaveEye meter reader behind its bridge: a house's demand as the records of the real topic.

The shape, the order of keys and the units are those of the real pipeline (SaveEye to MQTT to
Redpanda Connect): the reader's own object, kept whole, plus `fields`, `tags` and `ts` from the
bridge. Power in W and var, energy in Wh and varh, voltage in V, current in mA (the reader resolves
100 mA), power factor x100, `timestamp` local without a zone, `ts` RFC 3339 in UTC as Go prints it.
"""

from __future__ import annotations

import math
import random
import string
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

import orjson

from energyws.demo.house import House

_NANOSECONDS: Final = 1_000_000_000
_NANOSECONDS_PER_HOUR: Final = 3600 * _NANOSECONDS
_SERIAL_CHARACTERS: Final = string.digits + string.ascii_uppercase
# Volts that a watt on a phase costs on the way from the transformer.
_VOLTS_PER_WATT: Final = 0.0006

# Values that have been seen on such topics, or may be, and are no reading: tombstone, nothing,
# cut off, not JSON, not UTF-8, not an object.
POISON: Final[tuple[bytes | None, ...]] = (
    None,
    b"",
    b"null",
    b"[]",
    b'"offline"',
    b'{"activeActualConsumption":{"L1":638,"L2":2',
    b"SaveEye rebooted",
    b'{"meterType":"\xff\xfe"}',
    b'{"wifiRssi":NaN}',
)

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """What the reader tells at one moment, in the units of the module's docstring."""

    serial: str
    timestamp: str
    ts: str
    power: Triple
    power_total: int
    energy: int
    energy_produced: int
    reactive_consumed: int
    reactive_produced: int
    reactive_energy_consumed: int
    reactive_energy_produced: int
    current: Triple
    voltage: Triple
    power_factor: int
    rssi: int

    def encode(self) -> bytes:
        """The record's value, byte for byte as the bridge would write it."""
        return orjson.dumps(
            {
                "activeActualConsumption": {**_phases(self.power), "total": self.power_total},
                "activeActualProduction": {**_phases((0, 0, 0)), "total": 0},
                "activeTotalConsumption": {"total": self.energy},
                "activeTotalProduction": {"total": self.energy_produced},
                "fields": {
                    "active_energy_production": self.energy_produced,
                    "active_energy_total": self.energy,
                    "active_power_l1": self.power[0],
                    "active_power_l2": self.power[1],
                    "active_power_l3": self.power[2],
                    "active_power_total": self.power_total,
                    "active_production_total": 0,
                    "current_l1": self.current[0],
                    "current_l2": self.current[1],
                    "current_l3": self.current[2],
                    "power_factor": self.power_factor,
                    "voltage_l1": self.voltage[0],
                    "voltage_l2": self.voltage[1],
                    "voltage_l3": self.voltage[2],
                    "wifi_rssi": self.rssi,
                },
                "meterSerialNumber": "Not found",
                "meterType": "",
                "powerFactor": {"total": self.power_factor},
                "reactiveActualConsumption": {"total": self.reactive_consumed},
                "reactiveActualProduction": {"total": self.reactive_produced},
                "reactiveTotalConsumption": {"total": self.reactive_energy_consumed},
                "reactiveTotalProduction": {"total": self.reactive_energy_produced},
                "rmsCurrent": _phases(self.current),
                "rmsVoltage": _phases(self.voltage),
                "saveeyeDeviceSerialNumber": self.serial,
                "tags": {"device_serial": self.serial, "meter_type": ""},
                "timestamp": self.timestamp,
                "ts": self.ts,
                "wifiRssi": self.rssi,
            }
        )


class Meter:
    """The meter of one house. The same seed asked at the same times gives the same records.

    `zone` is the house's time zone; None is this machine's.
    """

    def __init__(self, seed: int, zone: tzinfo | None = None) -> None:
        self._house = House(seed)
        self._zone = zone
        self._chance = random.Random(f"meter {seed}")
        self.serial = "".join(self._chance.choices(_SERIAL_CHARACTERS, k=8))
        self._energy = self._chance.uniform(20e6, 150e6)
        self._energy_produced = self._chance.randint(0, 200)
        self._reactive_consumed = self._chance.uniform(5e6, 40e6)
        self._reactive_produced = self._chance.uniform(5e6, 40e6)
        self._rssi = self._chance.randint(-86, -45)
        self._mains = self._chance.uniform(233, 238)
        self._read_ns: int | None = None

    def read(self, now_ns: int) -> MeterReading:
        """The reading at a Unix time in nanoseconds (`time.time_ns()`).

        The energy registers go on from the previous reading; a clock set back adds nothing.
        """
        seconds, nanoseconds = divmod(now_ns, _NANOSECONDS)
        local = datetime.fromtimestamp(seconds, self._zone).replace(tzinfo=None)
        demand = self._house.demand(local)
        chance = self._chance
        watts = [
            round(w * chance.uniform(0.985, 1.015) + chance.uniform(0, 3)) for w in demand.watts
        ]
        total = sum(watts) + chance.randint(0, 1)
        volts = [self._mains + chance.uniform(-0.7, 0.7) - _VOLTS_PER_WATT * each for each in watts]
        amperes = [
            math.hypot(*powers) / volt
            for *powers, volt in zip(watts, demand.var, volts, strict=True)
        ]
        var = round(sum(demand.var))
        consumed, produced = max(var, 0), max(-var, 0)
        self._integrate(now_ns, total, consumed, produced)
        return MeterReading(
            serial=self.serial,
            timestamp=local.isoformat(),
            ts=_utc(seconds, nanoseconds),
            power=_triple(watts),
            power_total=total,
            energy=int(self._energy),
            energy_produced=self._energy_produced,
            reactive_consumed=consumed,
            reactive_produced=produced,
            reactive_energy_consumed=int(self._reactive_consumed),
            reactive_energy_produced=int(self._reactive_produced),
            current=_triple([round(ampere * 10) * 100 for ampere in amperes]),
            voltage=_triple([round(volt) for volt in volts]),
            # As the real reader reports it: capacitive power does not lower it.
            power_factor=round(100 * total / math.hypot(total, consumed)),
            rssi=self._rssi + chance.randint(-3, 3),
        )

    def record(self, now_ns: int) -> bytes:
        """The record's value at a Unix time in nanoseconds: see `read`."""
        return self.read(now_ns).encode()

    def poison(self) -> bytes | None:
        """A value that is no reading: one of POISON."""
        return self._chance.choice(POISON)

    def _integrate(self, now_ns: int, watts: int, var_consumed: int, var_produced: int) -> None:
        if self._read_ns is not None:
            hours = max(0, now_ns - self._read_ns) / _NANOSECONDS_PER_HOUR
            self._energy += watts * hours
            self._reactive_consumed += var_consumed * hours
            self._reactive_produced += var_produced * hours
        self._read_ns = now_ns


def _utc(seconds: int, nanoseconds: int) -> str:
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}{fraction}Z"


def _phases(values: Triple) -> dict[str, int]:
    return {"L1": values[0], "L2": values[1], "L3": values[2]}


def _triple(values: list[int]) -> Triple:
    first, second, third = values
    return first, second, third
