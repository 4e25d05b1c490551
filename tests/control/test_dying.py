"""Real processes with a part that fails or hangs: they end and are replaced, or recover."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest

from energyws.control.admin.client import AdminRequestFailed
from energyws.testing import eventually
from tests.control.supervised import Run, Supervised


def nothing(supervised: Supervised) -> None:
    pass


def reload(supervised: Supervised) -> None:
    wait_running(supervised)
    supervised.signal(signal.SIGHUP)


def terminate(supervised: Supervised) -> None:
    wait_running(supervised)
    supervised.child("worker-0").terminate()


def wait_running(supervised: Supervised) -> None:
    """Wait until the worker's event loop has its handlers."""

    def beats() -> bool:
        workers = supervised.admin("/workers")[1]
        return any(each["name"] == "worker-0" and each["board"]["beat"] for each in workers)

    eventually(beats, "the worker's loop runs")


def state(supervised: Supervised, name: str) -> str | None:
    return next(
        (each["state"] for each in supervised.admin("/workers")[1] if each["name"] == name), None
    )


@pytest.mark.parametrize(
    ("name", "part", "provoke"),
    [
        ("worker-0", "tick", nothing),
        ("worker-0", "pings", nothing),
        ("worker-0", "heartbeat", nothing),
        ("worker-0", "shed", nothing),
        ("worker-0", "keys", nothing),
        ("worker-0", "message", reload),
        ("worker-0", "terminate", terminate),
        ("consumer", "publisher", nothing),
    ],
)
def test_child_with_a_part_that_fails_is_replaced(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: str,
    provoke: Callable[[Supervised], None],
) -> None:
    monkeypatch.setenv("FAILING", part)
    supervised = run({name: "failing"}, supervision={"crash_loop_count": 1000})
    provoke(supervised)
    supervised.wait_logged(f"ERROR {name} failed")
    supervised.wait_logged("RuntimeError: broken on purpose")
    supervised.wait_logged("child ended", f"child={name}", "with exit code 1 (failure)")
    supervised.wait_logged("child started", f"child={name}", "restarts=1")


@pytest.mark.parametrize(
    ("part", "number"),
    [
        ("_carry_out", None),
        ("_look_after", None),
        ("handle_usr2", signal.SIGUSR2),
        ("handle_ttin", signal.SIGTTIN),
        ("handle_quit", signal.SIGQUIT),
        ("handle_term", signal.SIGTERM),
        ("drain", signal.SIGTERM),
    ],
)
def test_supervisor_with_a_part_that_fails_ends_in_order(
    run: Run, part: str, number: signal.Signals | None
) -> None:
    supervised = run(host={"broken": part})
    children = []
    if number is not None:
        children = supervised.ready().children()
        supervised.signal(number)
    assert supervised.wait() == 1
    assert supervised.logged("ERROR supervisor failed")
    assert supervised.logged("RuntimeError: broken on purpose")
    (line,) = supervised.logged("stopped")
    assert "exit_code=1" in line
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("script", ["hanging", "blocked"])
def test_hung_child_leaves_its_stacks(run: Run, script: str) -> None:
    supervised = run({"worker-0": script})
    pid = supervised.child("worker-0").pid
    supervised.wait_logged("killing child", "child=worker-0", "no heartbeat and no CPU time")
    (line,) = supervised.wait_logged("where the child stood when it hung or crashed")
    assert f"pid={pid}" in line
    where = {"hanging": "hanging.py:", "blocked": "threading.py:"}[script]
    assert where in line.partition(" at=")[2]
    # All threads, each with its callers.
    stacks = supervised.lines[supervised.lines.index(line) + 1 :]
    assert any(f'{script}.py", line' in each for each in stacks)
    assert any("writer.py" in each and " in _write" in each for each in stacks)
    assert supervised.wait_logged("child ended", "child=worker-0", 'status="killed by SIGABRT"')
    supervised.wait_logged("child started", "child=worker-0", "restarts=1")


def test_stacks_are_one_line_of_json_and_hold_no_secret(run: Run) -> None:
    supervised = run({"worker-0": "blocked"}, log={"format": "json"})
    (line,) = supervised.wait_logged("where the child stood")
    assert '"traceback":"Fatal Python error: Aborted' in line
    assert all(each.startswith("{") for each in supervised.lines)
    assert "x" * 40 not in line


def test_child_that_crashes_in_c_leaves_its_stacks(run: Run) -> None:
    supervised = run()
    supervised.wait_logged("worker-0 ready")
    supervised.child("worker-0").send_signal(signal.SIGSEGV)
    supervised.wait_logged("where the child stood", "child=worker-0")
    supervised.wait_logged("child ended", "child=worker-0", "killed by SIGSEGV")


def test_stopped_child_is_killed_though_it_cannot_leave_its_stacks(run: Run) -> None:
    supervised = run().ready()
    supervised.child("worker-0").suspend()
    (line,) = supervised.wait_logged("child ended", "child=worker-0")
    # Without "(out of memory?)", since the supervisor sent the signal.
    assert 'status="killed by SIGKILL"' in line


def test_command_that_is_not_begun_in_time_is_never_carried_out(run: Run) -> None:
    supervised = run(host={"act_seconds": 0.3, "block_seconds": 4}).ready()
    admin = supervised.client()
    supervised.signal(signal.SIGHUP)
    # Commands are still carried out until the block begins.
    eventually(lambda: supervised.admin("/live")[1]["silent_seconds"] >= 0.5, "the loop is blocked")
    with pytest.raises(
        AdminRequestFailed, match=r"503: the supervisor has not begun within 0\.3 s"
    ):
        admin.post("/workers", {"workers": 5})
    supervised.wait_logged("reloaded")
    assert admin.post("/workers", {"workers": 3}) == {"workers": 3, "before": 2}
    assert not supervised.logged("scaling", "workers=5")


def test_command_that_fails_is_answered_and_logged(run: Run) -> None:
    supervised = run(host={"broken": "scale"}).ready()
    with pytest.raises(AdminRequestFailed, match="500: a fault of the service: see its log"):
        supervised.client().post("/workers", {"workers": 5})
    supervised.wait_logged("an admin request failed")
    supervised.ready()


def test_message_to_a_child_that_does_not_read_waits_for_it(run: Run) -> None:
    supervised = run(supervision={"hang_seconds": 600}).ready()
    worker = supervised.child("worker-0")
    worker.suspend()
    # Far more messages than the socket has room for.
    for number in range(300):
        level = ("DEBUG", "INFO")[number % 2]
        supervised.client().post("/log", {"level": level})
    supervised.signal(signal.SIGHUP)
    supervised.wait_logged("reloaded")
    worker.resume()

    def reloads() -> list[int]:
        workers = supervised.admin("/workers")[1]
        return [each["board"]["reloads"] for each in workers]

    eventually(lambda: reloads() == [1, 1, 1], "all children have the new settings")
    assert not supervised.logged("control message not delivered")


def test_settings_too_large_for_a_message_lead_to_new_processes(run: Run) -> None:
    supervised = run(host={"streams": 2500}).ready()
    supervised.signal(signal.SIGHUP)
    supervised.wait_logged(
        "control message not delivered", "message=UseSettings", "Message too long"
    )
    supervised.wait_logged("child replaced", count=3)


def test_scaling_back_and_forth_never_exceeds_the_rows_of_the_board(run: Run) -> None:
    # Workers that do not leave, and a board with room for five processes.
    supervised = run(
        {"*": "stubborn", "consumer": "steady"},
        host={"rows": 6},
        server={
            "workers": 3,
            "drain_seconds": 0.5,
            "close_timeout_seconds": 0.1,
            "handshake_timeout_seconds": 0.1,
        },
    )
    supervised.wait_logged(" ready", count=4)
    admin = supervised.client()
    for workers in (1, 3, 1, 3, 1, 3):
        admin.post("/workers", {"workers": workers})
        # The admin port still answers.
        assert supervised.admin("/status")[0] == 200
        assert len(supervised.children()) <= 5
    supervised.wait_logged("a start waits for another process to end", "processes=5")
    eventually(
        lambda: (
            [state(supervised, f"worker-{n}") for n in range(3)] == ["ready"] * 3
            and len(supervised.admin("/workers")[1]) == 4
        ),
        "three workers, once the others have been killed",
        45,
    )
    psutil.Process(supervised.pid).terminate()
    assert supervised.wait() == 0
