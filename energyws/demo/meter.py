"""A simulated SaveEye meter reader behind its bridge: the records of the real topic.

The shape, the order of keys and the units are those of the real pipeline (SaveEye to MQTT to
Redpanda Connect): the reader's own object, kept whole, plus `fields`, `tags` and `ts` from the
bridge. Power in W and var, energy in Wh and varh, voltage in V, current in mA (the reader resolves
100 mA), power factor x100, `timestamp` local without a zone, `ts` RFC 3339 in UTC as Go prints it.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import orjson

_NANOSECONDS: Final = 1_000_000_000
_SERIAL_CHARACTERS: Final = string.digits + string.ascii_uppercase
# A household's mean power at each full hour of a day, in W.
# fmt: off
_HOURLY_WATTS: Final = (
    220, 200, 190, 190, 200, 240, 480, 720, 520, 400, 380, 420,
    460, 420, 400, 450, 700, 1150, 1400, 1200, 950, 760, 520, 330,
)
# fmt: on
# The voltage drop between the transformer and the meter, per watt on the phase.
_VOLTS_PER_WATT: Final = 0.0006

# Values that such topics hold, or may hold, beside readings: tombstone, empty, null, wrong type,
# truncated, not JSON, not UTF-8, not a JSON number.
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


def household(count: int, seed: int = 1) -> list[Meter]:
    """The meters of a demo; the same seed gives the same ones."""
    return [Meter(seed * 1000 + index) for index in range(count)]


class Meter:
    """One household's meter. The same seed and the same times give the same records.

    `zone` is the household's time zone; None is this machine's.
    """

    def __init__(self, seed: int, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._chance = chance = random.Random(f"meter {seed}")
        self.serial = "".join(chance.choices(_SERIAL_CHARACTERS, k=8))
        first, second = chance.uniform(0.5, 0.65), chance.uniform(0.15, 0.3)
        size = chance.uniform(0.7, 1.6)
        self._shares = (size * first, size * second, size * (1 - first - second))
        self._energy = chance.uniform(20e6, 150e6)
        self._energy_produced = chance.randint(0, 200)
        self._reactive_energy_consumed = chance.randint(5_000_000, 40_000_000)
        self._reactive_energy = chance.uniform(5e6, 40e6)
        self._rssi = chance.randint(-86, -45)
        self._mains_volts = chance.uniform(233, 238)
        self._read_ns: int | None = None

    def read(self, now_ns: int) -> dict[str, Any]:
        """The reading at a Unix time in nanoseconds (`time.time_ns()`).

        The energy registers continue from the previous reading; a clock set back adds nothing.
        """
        seconds, nanoseconds = divmod(now_ns, _NANOSECONDS)
        local = datetime.fromtimestamp(seconds, self._zone).replace(tzinfo=None)
        chance = self._chance
        mean = _mean_watts(local)
        watts = [round(mean * share * chance.uniform(0.9, 1.1)) for share in self._shares]
        total = sum(watts) + chance.randint(0, 1)
        # The filters of switched power supplies are capacitive, whatever the load.
        var = chance.randint(550, 650)
        volts = [self._mains_volts + chance.uniform(-0.7, 0.7) - _VOLTS_PER_WATT * w for w in watts]
        pairs = zip(watts, volts, strict=True)
        milliamperes = [round(math.hypot(w, var / 3) / v * 10) * 100 for w, v in pairs]
        rssi = self._rssi + chance.randint(-3, 3)
        if self._read_ns is not None:
            hours = max(0, now_ns - self._read_ns) / (3600 * _NANOSECONDS)
            self._energy += total * hours
            self._reactive_energy += var * hours
        self._read_ns = now_ns
        fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
        return {
            "activeActualConsumption": {**_phases("L", watts), "total": total},
            "activeActualProduction": {**_phases("L", (0, 0, 0)), "total": 0},
            "activeTotalConsumption": {"total": int(self._energy)},
            "activeTotalProduction": {"total": self._energy_produced},
            "fields": {
                "active_energy_production": self._energy_produced,
                "active_energy_total": int(self._energy),
                **_phases("active_power_l", watts),
                "active_power_total": total,
                "active_production_total": 0,
                **_phases("current_l", milliamperes),
                "power_factor": 100,
                **_phases("voltage_l", map(round, volts)),
                "wifi_rssi": rssi,
            },
            "meterSerialNumber": "Not found",
            "meterType": "",
            "powerFactor": {"total": 100},
            "reactiveActualConsumption": {"total": 0},
            "reactiveActualProduction": {"total": var},
            "reactiveTotalConsumption": {"total": self._reactive_energy_consumed},
            "reactiveTotalProduction": {"total": int(self._reactive_energy)},
            "rmsCurrent": _phases("L", milliamperes),
            "rmsVoltage": _phases("L", map(round, volts)),
            "saveeyeDeviceSerialNumber": self.serial,
            "tags": {"device_serial": self.serial, "meter_type": ""},
            "timestamp": local.isoformat(),
            "ts": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z",
            "wifiRssi": rssi,
        }

    def record(self, now_ns: int) -> bytes:
        """The reading, byte for byte as the bridge would write it: see `read`."""
        return orjson.dumps(self.read(now_ns))

    def poison(self) -> bytes | None:
        """A value that is no reading: one of POISON."""
        return self._chance.choice(POISON)


def _mean_watts(local: datetime) -> float:
    now, then = _HOURLY_WATTS[local.hour], _HOURLY_WATTS[(local.hour + 1) % 24]
    return now + (then - now) * (60 * local.minute + local.second) / 3600


def _phases(prefix: str, values: Iterable[int]) -> dict[str, int]:
    return {f"{prefix}{number}": value for number, value in enumerate(values, 1)}
