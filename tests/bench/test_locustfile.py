from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import SECRET, Records, Service, Traffic
from energyws.testing.certificates import write_pair

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "bench" / "locustfile.py"
SECONDS = 6
Finished = subprocess.CompletedProcess[str]


def run(service: Service, *arguments: str, secret: str = SECRET) -> Finished:
    host = service.url.removesuffix("/ws/energy")
    return locust(
        *("--host", host, "--jwt-secret", secret, "--json", "--users", "6", "--spawn-rate", "6"),
        *("--run-time", f"{SECONDS}s", "--stop-timeout", "5", *arguments),
    )


def locust(*arguments: str, cwd: Path = ROOT) -> Finished:
    known = {k: v for k, v in os.environ.items() if not k.startswith("ENERGYWS_")}
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=80,
        env=known,
        check=False,
    )


def statistics(finished: Finished) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(finished.stdout)}


@pytest.mark.e2e
def test_users_over_tls_get_everything_ping_and_resume(
    serve: Callable[..., Service], records: Records, tmp_path: Path
) -> None:
    pair = write_pair(tmp_path)
    service = serve(server={"tls": pair}).ready()
    with Traffic(records):
        # Fast enough that every user drops its connection during the run.
        finished = run(service, "--ca", pair["cert"], "--dense", "--pace", "100")
    assert finished.returncode == 0, finished.stderr + finished.stdout
    rows = statistics(finished)
    assert rows["connect"]["num_requests"] == 6
    for name in ("frame", "replay", "ping", "resume"):
        assert rows[name]["num_requests"] > 0, name
    assert all(row["num_failures"] == 0 for row in rows.values())
    assert {row["method"] for row in rows.values()} == {"wss"}


@pytest.mark.e2e
def test_replayed_frames_are_counted_apart_and_the_type_is_ws_without_tls(
    serve: Callable[..., Service], records: Records, tmp_path: Path
) -> None:
    # Each user has a key, and a token that names it.
    streams = {"energy": {"topic": records.topic, "key": "/meter", "access": "keyed"}}
    service = serve(streams=streams).ready()
    with Traffic(records, meter="a"):
        # With the full URL that clients use, and from a directory outside the clone.
        host = f"{service.url}/"
        finished = locust(
            *("--host", host, "--jwt-secret", SECRET, "--json", "--users", "3"),
            *("--spawn-rate", "3", "--run-time", f"{SECONDS}s", "--stop-timeout", "5"),
            *("--keys", "a", "--pace", "100"),
            cwd=tmp_path,
        )
    assert finished.returncode == 0, finished.stderr + finished.stdout
    rows = statistics(finished)
    assert {row["method"] for row in rows.values()} == {"ws"}
    assert rows["replay"]["num_requests"] > 0
    assert rows["frame"]["num_requests"] > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--host", "http://h.example", "--jwt", "x"],
            "--host http://h.example: use ws://HOST:PORT or, where there is TLS, wss://HOST",
        ),
        (
            ["--host", "h.example:8080", "--jwt", "x"],
            "--host h.example:8080: use ws://HOST:PORT or, where there is TLS, wss://HOST",
        ),
        (
            ["--host", "wss://h.example"],
            "no token: give --jwt-secret SECRET (or ENERGYWS_JWT_SECRET), "
            "or --jwt TOKEN (or ENERGYWS_JWT)",
        ),
    ],
)
def test_options_that_let_no_user_connect_end_the_run_with_one_line(
    arguments: list[str], line: str, tmp_path: Path
) -> None:
    finished = locust(*arguments, "--users", "1", "--run-time", "2s", cwd=tmp_path)
    assert finished.returncode == 1
    # Locust's own log lines start with a timestamp in brackets.
    printed = [each for each in finished.stderr.splitlines() if not each.startswith("[")]
    assert printed == [line]


@pytest.mark.e2e
def test_refused_users_end_the_run_with_status_1(serve: Callable[..., Service]) -> None:
    service = serve().ready()
    finished = run(service, "--pace", "100", secret="another-secret-of-thirty-two-bytes-or-so")
    assert finished.returncode == 1, finished.stderr
    rows = statistics(finished)
    assert list(rows) == ["connect"]
    assert rows["connect"]["num_failures"] == rows["connect"]["num_requests"] >= 6
