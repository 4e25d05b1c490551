from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import energyws.testing
from energyws.testing import Records, Service, config, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def test_restarted_service_listens_on_new_ports(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    before, pid = service.port, service.pid
    assert service.stop() == 0
    assert service.admin("/ready") == (0, None)
    service.config["server"]["workers"] = 2
    service.start().ready()
    assert service.port != before
    assert service.pid != pid
    assert sorted(service.children()) == ["consumer", "worker-0", "worker-1"]
    records.send(2)
    service.caught_up(records)


def test_leaving_the_block_ends_every_process_even_a_stopped_one(
    serve: Callable[..., Service],
) -> None:
    with serve(server={"workers": 1}).ready() as service:
        processes = list(service.processes().values())
        assert len(processes) == 3
        service.signal(signal.SIGSTOP)
    assert not [process for process in processes if process.is_running()]


def test_error_for_an_ended_service_has_its_log(tmp_path: Path) -> None:
    with Service(tmp_path, config("127.0.0.1:1", "t", server={"workers": -1})) as service:
        with pytest.raises(AssertionError, match=r"the service has ended:(.|\n)*server.workers"):
            service.ready()
        assert not service.running


def test_environment_reaches_the_service(tmp_path: Path) -> None:
    given = {"ENERGYWS_SERVER__WORKERS": "1"}
    with Service(tmp_path, config("127.0.0.1:1", "t"), environment=given) as service:
        service.wait_logged("admin listening")
        eventually(lambda: len(service.children()) == 2, "consumer and one worker")


def test_only_public_names_can_be_imported() -> None:
    for name in energyws.testing._MODULES:
        assert getattr(energyws.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        energyws.testing.nothing  # noqa: B018


def test_broker_process_imports_nothing_of_the_service() -> None:
    code = "import sys, energyws.testing.broker_process as _; print('psutil' in sys.modules)"
    process = psutil.Popen([sys.executable, "-c", code], stdout=-1, text=True)
    assert process.communicate(timeout=30)[0] == "False\n"
