from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from energyws.settings import Admin, Auth, Kafka, Settings
from energyws.settings_json import dumps

SECRET = "canary-of-more-than-thirty-two-bytes"


# Programs that may run on the same machine, and their documented default ports.
NEIGHBOURS = {
    "Kafka": {9091, 9092, 9093, 9094, 19092, 29092},
    "ZooKeeper": {2181, 2888, 3888},
    "Redpanda": {8081, 8082, 8083, 9092, 9644, 18081, 18082, 19092, 19644, 33145, 8080, 4195},
    "Confluent": {8081, 8082, 8083, 8088, 8090, 9021, 8085, 8086},
    "Kafka's tools": {7071, 8000, 8080, 8081, 9000, 9020, 9090, 9308, 9404, 9999, 3030, 9991},
    "Flink, Spark": {6123, 8081, 4040, 7077, 8080, 18080},
    "Prometheus, exporters": {3000, 3100, 9090, 9091, 9093, 9094, 9100, 9115, 9121, 9187, 9464},
    "VictoriaMetrics, InfluxDB": {8428, 8429, 8480, 8481, 8482, 8086, 8088, 8094, 8186},
    "OpenTelemetry": {4317, 4318, 8888, 8889, 13133, 55679, 14268, 16686, 9411},
    "proxies": {80, 443, 1936, 8080, 8404, 8443, 9901, 15000, 15020, 15021, 15090},
    "Kubernetes": {6443, 8080, 8081, 8443, 9443, 10248, 10250, 10255, 10256, 2379, 2380},
    "smart home": {1880, 1883, 7070, 8083, 8123, 8883, 9001, 18083},
    "load generators": {8089, 5557},
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_default_admin_port_is_no_other_programs_default(name: str) -> None:
    assert Admin().port not in NEIGHBOURS[name]
    # It is neither privileged nor ephemeral (ip_local_port_range).
    assert 1024 <= Admin().port < 32768


def test_secrets_stay_out_of_the_representation() -> None:
    settings = Settings(
        kafka=Kafka(brokers="b:9092", options={"sasl.password": SECRET}),
        auth=Auth(jwt_secret=SECRET, jwt_secret_previous=SECRET),
    )

    assert SECRET not in repr(settings)
    assert SECRET.encode() in dumps(settings)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings(kafka=Kafka(brokers="b:9092")).kafka.brokers = "other"  # type: ignore[misc]


def test_children_need_no_validation_library() -> None:
    program = "import sys, energyws.settings; print('pydantic' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout == "False\n"
