"""The supervisor with real children, each a script of a few lines."""

from __future__ import annotations

import os
import resource
import signal
import socket
from pathlib import Path

import psutil
import pytest

from energyws.control.admin.client import AdminRequestFailed
from energyws.control.host.facts import usable_cores
from energyws.testing import eventually
from tests.control.supervised import Run


def ended(process: psutil.Process) -> bool:
    """Whether it has ended; init may not have reaped it yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killed_child_is_replaced_and_its_row_is_clean(run: Run) -> None:
    supervised = run().ready()
    victim = supervised.child("worker-1")
    victim.kill()
    supervised.wait_logged("child ended", "child=worker-1", "killed by SIGKILL")
    supervised.wait_logged("child started", "child=worker-1", "restarts=1")
    supervised.ready()

    def connections() -> list[int]:
        return [child["board"]["connections"] for child in supervised.admin("/workers")[1]]

    eventually(lambda: connections() == [7, 7, 7], "three clean rows")


def test_the_service_manager_gets_reports(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "500000")

        def wait_received(wanted: str) -> None:
            while not listening.recv(4096).decode().startswith(wanted):
                pass

        supervised = run()
        wait_received("READY=1")
        assert supervised.admin("/ready")[0] == 200
        assert "NOTIFY_SOCKET" not in supervised.child("worker-0").environ()
        wait_received("WATCHDOG=1")
        wait_received("WATCHDOG=1")
        supervised.signal(signal.SIGHUP)
        wait_received("RELOADING=1\nMONOTONIC_USEC=")
        wait_received("READY=1")
        supervised.signal(signal.SIGTERM)
        wait_received("STOPPING=1")
        assert supervised.wait() == 0


def test_terminate_drains_and_ends_with_zero(run: Run) -> None:
    supervised = run().ready()
    children = supervised.children()
    assert len(children) == 3
    supervised.signal(signal.SIGTERM)
    assert supervised.wait() == 0
    assert all(ended(child) for child in children)
    ends = [line for line in supervised.lines if "child ended" in line]
    assert "child=consumer" in ends[-1]
    assert len(ends) == 3


def test_admin_rolls_and_drains(run: Run) -> None:
    supervised = run(server={"drain_seconds": 3600}).ready()
    admin = supervised.client()
    assert admin.post("/roll", None) == {"replacing": True}
    supervised.wait_logged("child replaced", count=3)
    assert admin.post("/drain", None) == {"seconds": 3600}
    assert supervised.wait() == 0
    assert supervised.logged("draining", 'trigger="POST /drain"')


def test_service_that_drains_takes_no_commands(run: Run) -> None:
    supervised = run({"worker-0": "stubborn"}, server={"drain_seconds": 3600})
    supervised.wait_logged(" ready", count=3)
    admin = supervised.client()
    admin.post("/drain", None)
    for path, body in (
        *(("/drain", None), ("/roll", None), ("/rebalance", None), ("/workers", {"workers": 3})),
        ("/reload", None),
    ):
        with pytest.raises(AdminRequestFailed, match="409: the service is draining"):
            admin.post(path, body)
    supervised.wait_logged("child ended", count=1)
    assert supervised.logged("told to stop at once") == []


def test_status_shows_all_processes_and_recent_events(run: Run) -> None:
    supervised = run().ready()
    supervised.child("worker-1").kill()
    supervised.wait_logged("child started", "child=worker-1", "restarts=1")
    supervised.ready()
    processes = eventually(
        lambda: len(seen := supervised.admin("/status")[1]["processes"]) == 4 and seen,
        "all processes",
    )
    assert {each["name"]: each.get("restarts") for each in processes} == {
        "supervisor": None,
        "consumer": 0,
        "worker-0": 0,
        "worker-1": 1,
    }
    assert all(each["resident_bytes"] > 1 << 20 for each in processes)
    events = supervised.admin("/status")[1]["events"]
    (ended,) = [each for each in events if each["event"] == "child ended"]
    assert (ended["level"], ended["child"]) == ("ERROR", "worker-1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_immediately(run: Run, number: signal.Signals) -> None:
    supervised = run({"*": "stubborn", "consumer": "steady"}, server={"drain_seconds": 3600})
    supervised.wait_logged(" ready", count=3)
    supervised.signal(number)
    supervised.wait_logged("draining")
    assert "draining" in supervised.admin("/ready")[1]["reasons"]
    supervised.signal(number)
    assert supervised.wait() == 0
    assert supervised.logged("told to stop at once")


def test_child_that_does_not_drain_is_killed_at_the_deadline(run: Run) -> None:
    supervised = run(
        {"worker-0": "stubborn"}, server={"drain_seconds": 0, "close_timeout_seconds": 0.1}
    )
    # The service is ready as soon as its first worker is.
    supervised.wait_logged("worker-0 ready")
    supervised.signal(signal.SIGTERM)
    assert supervised.wait() == 0
    assert supervised.logged("killing child", "child=worker-0", "did not drain in time")


def test_crash_loop_ends_with_its_own_code_and_logs_why(run: Run) -> None:
    supervised = run({"worker-0": "crashing"})
    assert supervised.wait() == 4
    (line,) = supervised.logged("stopped")
    assert "exit_code=4" in line
    assert "worker-0 ended 5 times within 30 s, last with exit code 1 (failure)" in line
    assert supervised.logged("broken on purpose")


def test_child_that_cannot_start_ends_the_service(run: Run) -> None:
    supervised = run({"consumer": "unable"})
    assert supervised.wait() == 3
    assert supervised.logged("cannot start", "the moon is in the wrong phase")
    assert len(supervised.logged("child started", "child=consumer")) == 1


def test_hung_child_is_killed_and_replaced(run: Run) -> None:
    supervised = run({"worker-0": "hanging"})
    supervised.wait_logged("killing child", "child=worker-0", "no heartbeat")
    supervised.wait_logged("child started", "child=worker-0", "restarts=1")


def test_stopped_child_is_killed_and_replaced(run: Run) -> None:
    supervised = run().ready()
    supervised.child("worker-0").suspend()
    supervised.wait_logged("killing child", "child=worker-0", "no heartbeat and no CPU time")
    supervised.wait_logged("child started", "child=worker-0", "restarts=1")
    assert not supervised.logged("killing child", "child=worker-1")


@pytest.mark.parametrize("script", ["steady", "hanging"])
def test_no_child_outlives_a_killed_supervisor(run: Run, script: str) -> None:
    supervised = run({"*": script}, supervision={"hang_seconds": 600})
    supervised.wait_logged(" ready", count=3)
    children = supervised.children()
    supervised.signal(signal.SIGKILL)
    supervised.wait()
    eventually(lambda: all(ended(child) for child in children), "every child is gone", 5)


def test_bus_directory_is_private_and_removed(run: Run) -> None:
    supervised = run().ready()
    (argument,) = [a for a in supervised.child("consumer").cmdline() if a.startswith("--bus=")]
    directory = Path(argument.removeprefix("--bus="))
    assert directory.stat().st_mode & 0o777 == 0o700
    supervised.signal(signal.SIGTERM)
    assert supervised.wait() == 0
    assert not directory.exists()


def test_no_secret_is_visible_to_other_users(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING", "x" * 40)
    monkeypatch.setenv("ENERGYWS_ADMIN__TOKEN", "another-secret")
    supervised = run().ready()
    for child in supervised.children():
        assert "x" * 40 not in " ".join(child.cmdline())
        assert not {"x" * 40, "another-secret"} & set(child.environ().values())
        assert child.environ()["PATH"] == os.environ["PATH"]


def test_no_process_writes_a_core_dump_unless_told_to(run: Run) -> None:
    supervised = run().ready()
    pids = [supervised.pid, *(child.pid for child in supervised.children())]
    for pid in pids:
        assert max(resource.prlimit(pid, resource.RLIMIT_CORE)) <= 1
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    # What needs the rights of the same user goes on: the supervisor's own figures.
    processes = supervised.admin("/status")[1]["processes"]
    assert all(each["open_files"] > 3 and each["resident_bytes"] for each in processes)


def test_core_dumps_that_are_wanted(run: Run) -> None:
    supervised = run(supervision={"core_dumps": True}).ready()
    limit = resource.prlimit(supervised.pid, resource.RLIMIT_CORE)
    assert limit == resource.getrlimit(resource.RLIMIT_CORE)


@pytest.mark.parametrize("reuse", [False, True], ids=["plain", "with SO_REUSEPORT"])
def test_port_in_use_is_a_clear_error(run: Run, reuse: bool) -> None:
    with socket.socket() as other:
        if reuse:
            # A second service of the same user could share the port unnoticed.
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        supervised = run(server={"port": port})
        assert supervised.wait() == 3
    (line,) = supervised.logged("cannot start")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line
    assert "is the service running already?" in line


def test_admin_shows_the_reasons_not_to_be_ready(run: Run) -> None:
    supervised = run({"worker-0": "stubborn", "worker-1": "stubborn", "consumer": "stubborn"})
    supervised.wait_logged(" ready", count=3)
    assert supervised.admin("/ready") == (
        503,
        {"ready": False, "reasons": ["the broker is not reachable"]},
    )
    assert supervised.admin("/live")[0] == 200
    names = [child["name"] for child in supervised.admin("/workers")[1]]
    assert sorted(names) == ["consumer", "worker-0", "worker-1"]
    assert supervised.admin("/nowhere")[0] == 404


def test_shortage_is_logged_once_with_the_command_that_cures_it(run: Run) -> None:
    supervised = run(server={"backlog": 1 << 30, "workers": 1}).ready()
    (line,) = supervised.logged("net.core.somaxconn is below server.backlog")
    assert f"sysctl -w net.core.somaxconn={1 << 30}" in line
    for number in range(usable_cores()):
        supervised.signal(signal.SIGTTIN)
        supervised.wait_logged("scaling", f"workers={number + 2} ")
    (line,) = supervised.wait_logged("more workers than cores")
    assert f"energyws scale {usable_cores()}" in line
    assert len(supervised.logged("net.core.somaxconn is below server.backlog")) == 1
