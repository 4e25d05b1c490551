"""The process that checks new settings: its result, and how it can fail."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import psutil
import pytest

from energyws.control.children.spawn import PREFLIGHT_COMMAND
from energyws.control.reload.preflight import Preflight
from energyws.errors import ConfigError
from energyws.settings import Admin, Auth, Kafka, Settings, Stream
from energyws.settings import SchemaRegistry as Where
from energyws.testing import SchemaRegistry, eventually

GOOD = Settings(kafka=Kafka(brokers="127.0.0.1:1", topic="t"), auth=Auth(jwt_secret="s" * 40))
KEY = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def refused(settings: Settings, *command: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        asyncio.run(Preflight(command or PREFLIGHT_COMMAND).check(settings))
    return error.value


def test_good_settings_pass_and_leave_nothing() -> None:
    preflight = Preflight()
    asyncio.run(preflight.check(GOOD))
    assert preflight.pid is None


def test_every_fault_is_named_without_a_value() -> None:
    error = refused(
        Settings(
            kafka=Kafka(brokers="b", topic="t", options={"security.protocol": "hunter2"}),
            auth=Auth(jwt_secret=KEY),
        )
    )
    assert error.kind == "secret"
    secret, options = error.problems
    assert secret.startswith("auth.jwt_secret cannot be used")
    assert options == (
        "kafka.options: librdkafka says: "
        'Invalid value for configuration property "security.protocol"'
    )


def test_token_of_operators_is_not_passed_on() -> None:
    command = script(
        "import os, sys\n"
        "found = os.pread(int(sys.argv[1].partition('=')[2]), 1 << 20, 0)\n"
        "print('[]' if b'jwt_secret' in found and b'a-word' not in found else 'found')"
    )
    settings = replace(GOOD, admin=Admin(token="a-word"))
    asyncio.run(Preflight(command).check(settings))


@pytest.mark.parametrize(
    "options",
    [
        {"no.such.property": "x"},
        {"socket.timeout.ms": "-5"},
        {"ssl.ca.location": "/no/such/file", "security.protocol": "ssl"},
        {"sasl.mechanism": "PLAIN", "security.protocol": "sasl_plaintext"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_librdkafka_refuses_are_faults_of_the_configuration(
    options: dict[str, str],
) -> None:
    kafka = Kafka(brokers="b", topic="t", options=options)
    error = refused(Settings(kafka=kafka, auth=GOOD.auth))
    assert error.kind == "configuration"
    (problem,) = error.problems
    assert problem.startswith("kafka.options: librdkafka says: ")


def test_registry_that_refuses_is_a_fault_and_one_that_is_away_a_warning() -> None:
    with SchemaRegistry() as registry:
        settings = Settings(
            kafka=Kafka(brokers="127.0.0.1:1"),
            streams={"s": Stream(topic="t", format="avro")},
            auth=GOOD.auth,
            schema_registry=Where(url=registry.url),
        )
        assert asyncio.run(Preflight().check(settings)) == []
        registry.password = "right"
        error = refused(settings)
        assert asyncio.run(Preflight().check(settings, registry=False)) == []
        registry.down = True
        warnings = asyncio.run(Preflight().check(settings))
    assert error.kind == "configuration"
    assert "HTTP status 401: check schema_registry.username" in error.problems[0]
    assert warnings == ["schema_registry.url: cannot be used: HTTP status 503"]


@pytest.mark.parametrize("text", ["", "print('['", "raise SystemExit(1)"])
def test_process_without_a_result_is_no_pass(text: str) -> None:
    assert refused(GOOD, *script(text)).problems == [
        "the settings could not be checked: see the log"
    ]


def test_process_that_cannot_be_started_is_no_pass() -> None:
    error = refused(GOOD, "/no/such/program")
    assert error.problems == ["the settings could not be checked: No such file or directory"]


def test_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energyws.control.reload.preflight.PREFLIGHT_SECONDS", 0.2)
    others = psutil.Process().children()
    error = refused(GOOD, *script("import time; time.sleep(600)"))
    assert error.problems == ["not checked within 0.2 s: try again"]
    assert set(psutil.Process().children()) <= set(others)


def test_process_ends_when_the_check_is_cancelled() -> None:
    preflight = Preflight(script("import time; time.sleep(600)"))

    async def give_up() -> psutil.Process:
        task = asyncio.create_task(preflight.check(GOOD))
        while preflight.pid is None:
            await asyncio.sleep(0.01)
        process = psutil.Process(preflight.pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return process

    process = asyncio.run(give_up())
    eventually(lambda: not process.is_running(), "the process has ended")
