"""Records have the shape of real ones, and consistent values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from statistics import mean
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.demo.meter import POISON, Meter
from energyws.stream.record import BadRecord, decode

# A captured reading as it leaves the bridge: 1,047 bytes.
SAMPLE = (
    b'{"activeActualConsumption":{"L1":638,"L2":250,"L3":67,"total":956},'
    b'"activeActualProduction":{"L1":0,"L2":0,"L3":0,"total":0},'
    b'"activeTotalConsumption":{"total":102795417},"activeTotalProduction":{"total":83},'
    b'"fields":{"active_energy_production":83,"active_energy_total":102795417,'
    b'"active_power_l1":638,"active_power_l2":250,"active_power_l3":67,'
    b'"active_power_total":956,"active_production_total":0,'
    b'"current_l1":3100,"current_l2":1700,"current_l3":400,"power_factor":100,'
    b'"voltage_l1":235,"voltage_l2":236,"voltage_l3":237,"wifi_rssi":-89},'
    b'"meterSerialNumber":"Not found","meterType":"","powerFactor":{"total":100},'
    b'"reactiveActualConsumption":{"total":0},"reactiveActualProduction":{"total":621},'
    b'"reactiveTotalConsumption":{"total":30100902},'
    b'"reactiveTotalProduction":{"total":15964771},'
    b'"rmsCurrent":{"L1":3100,"L2":1700,"L3":400},"rmsVoltage":{"L1":235,"L2":236,"L3":237},'
    b'"saveeyeDeviceSerialNumber":"9MANZWNG",'
    b'"tags":{"device_serial":"9MANZWNG","meter_type":""},'
    b'"timestamp":"2025-12-02T20:17:48","ts":"2025-12-02T20:17:48.88864083Z","wifiRssi":-89}'
)
MAX_RECORD_BYTES = 65536
SECOND = 10**9
NOW = 1_764_706_668 * SECOND
SEEDS = st.integers(0, 2**32)
TIMES = st.integers(946_771_200 * SECOND, 4_102_444_800 * SECOND)


def shape(value: object) -> object:
    """The keys in their order, at every level, with the types at the leaves."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return type(value)


def test_records_are_encoded_like_the_real_one() -> None:
    assert len(SAMPLE) == 1047
    assert orjson.dumps(orjson.loads(SAMPLE)) == SAMPLE
    assert Meter(1, UTC).record(NOW) == orjson.dumps(Meter(1, UTC).read(NOW))


@given(SEEDS, TIMES)
def test_every_record_has_the_shape_and_size_of_the_real_one(seed: int, now_ns: int) -> None:
    record = Meter(seed, UTC).record(now_ns)
    assert decode(record, max_bytes=MAX_RECORD_BYTES) == record
    assert shape(orjson.loads(record)) == shape(orjson.loads(SAMPLE))
    assert abs(len(record) - len(SAMPLE)) < 50


@given(SEEDS, TIMES)
def test_values_of_a_record_are_consistent(seed: int, now_ns: int) -> None:
    value: dict[str, Any] = orjson.loads(Meter(seed, UTC).record(now_ns))
    fields, power = value["fields"], value["activeActualConsumption"]
    assert power["total"] - sum(power[phase] for phase in ("L1", "L2", "L3")) in (0, 1)
    assert fields["active_power_total"] == power["total"]
    assert fields["active_energy_total"] == value["activeTotalConsumption"]["total"]
    assert value["tags"]["device_serial"] == value["saveeyeDeviceSerialNumber"]
    assert value["meterType"] == value["tags"]["meter_type"] == ""
    assert value["meterSerialNumber"] == "Not found"
    assert value["activeActualProduction"] == {"L1": 0, "L2": 0, "L3": 0, "total": 0}
    assert 0 < value["powerFactor"]["total"] <= 100
    # Reactive power flows in one direction at a time.
    assert 0 in (
        value["reactiveActualConsumption"]["total"],
        value["reactiveActualProduction"]["total"],
    )
    for phase in ("L1", "L2", "L3"):
        watts, milliamperes = power[phase], value["rmsCurrent"][phase]
        volts = value["rmsVoltage"][phase]
        name = phase.lower()
        assert fields[f"active_power_{name}"] == watts
        assert fields[f"current_{name}"] == milliamperes
        assert fields[f"voltage_{name}"] == volts
        assert 225 <= volts <= 245
        assert milliamperes % 100 == 0
        # Apparent power >= active power; steps of 100 mA and 1 V round by up to a half.
        assert (milliamperes + 50) * (volts + 0.5) >= watts * 1000


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(0, 3600 * SECOND), min_size=1, max_size=10))
def test_same_seed_and_clock_give_the_same_records(seed: int, steps: list[int]) -> None:
    one, two = Meter(seed, UTC), Meter(seed, UTC)
    now = NOW
    for step in steps:
        now += step
        assert one.record(now) == two.record(now)


def test_seeds_give_different_meters() -> None:
    assert len({Meter(seed).serial for seed in range(200)}) == 200


@pytest.mark.parametrize("seed", range(4))
def test_meter_draws_most_in_the_evening_and_least_at_night(seed: int) -> None:
    meter = Meter(seed, UTC)

    def watts(hour: int) -> float:
        start = datetime(2026, 1, 12, hour, tzinfo=UTC).timestamp()
        minutes = range(0, 3600, 60)
        return mean(total_power(meter.read(int(start + at) * SECOND)) for at in minutes)

    night, breakfast, dinner = watts(3), watts(7), watts(18)
    assert night < breakfast < dinner


def total_power(reading: dict[str, Any]) -> int:
    total: int = reading["activeActualConsumption"]["total"]
    return total


def energy(reading: dict[str, Any]) -> int:
    total: int = reading["activeTotalConsumption"]["total"]
    return total


def test_energy_is_the_integral_of_power() -> None:
    meter = Meter(5, UTC)
    readings = [meter.read(NOW + second * SECOND) for second in range(3600)]
    # Each reading's power applies to the second that ends with it.
    expected = sum(map(total_power, readings[1:])) / 3600
    energies = [energy(reading) for reading in readings]
    assert energies[-1] - energies[0] == pytest.approx(expected, abs=1)
    assert expected > 100
    assert energies == sorted(energies)


def test_setting_the_clock_back_adds_no_energy() -> None:
    meter = Meter(5, UTC)
    before = energy(meter.read(NOW))
    assert energy(meter.read(NOW - 86400 * SECOND)) == before


# Nanoseconds within a second, and the format that Go's RFC3339Nano gives them.
FRACTIONS = [
    (0, "Z"),
    (1, ".000000001Z"),
    (500_000_000, ".5Z"),
    (888_640_830, ".88864083Z"),
    (999_999_999, ".999999999Z"),
]


@pytest.mark.parametrize(("nanoseconds", "end"), FRACTIONS)
def test_ts_has_the_fraction_without_trailing_zeros(nanoseconds: int, end: str) -> None:
    assert Meter(1).read(NOW + nanoseconds)["ts"] == f"2025-12-02T20:17:48{end}"


def test_timestamp_is_local_and_ts_is_utc() -> None:
    reading = Meter(1, timezone(timedelta(hours=1))).read(NOW)
    assert reading["timestamp"] == "2025-12-02T21:17:48"
    assert reading["ts"] == "2025-12-02T20:17:48Z"


@given(TIMES)
def test_ts_and_timestamp_are_the_same_second(now_ns: int) -> None:
    reading = Meter(1, UTC).read(now_ns)
    moment = datetime.fromisoformat(reading["ts"])
    assert moment.replace(tzinfo=None, microsecond=0).isoformat() == reading["timestamp"]
    assert moment == datetime.fromtimestamp(now_ns // SECOND, UTC).replace(
        microsecond=now_ns % SECOND // 1000
    )


@pytest.mark.parametrize("value", POISON)
def test_poison_is_a_bad_record(value: bytes | None) -> None:
    with pytest.raises(BadRecord):
        decode(value, max_bytes=MAX_RECORD_BYTES)


def test_meter_produces_every_kind_of_poison() -> None:
    meter = Meter(1)
    assert {meter.poison() for _ in range(500)} == set(POISON)
