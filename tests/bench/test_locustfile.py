from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service import SECRET, Records, Service, Traffic

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "bench" / "locustfile.py"
SECONDS = 6
Finished = subprocess.CompletedProcess[str]


def run(service: Service, *arguments: str, secret: str = SECRET) -> Finished:
    host = service.url.removesuffix("/ws/energy")
    return subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host),
            *("--jwt-secret", secret, "--headless", "--json", "--users", "6", "--spawn-rate", "6"),
            *("--run-time", f"{SECONDS}s", "--stop-timeout", "5", *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )


def statistics(finished: Finished) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(finished.stdout)}


@pytest.mark.e2e
def test_users_over_tls_get_everything_ping_and_resume(
    serve: Callable[..., Service], records: Records, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}",
        shell=True,
        check=True,
        capture_output=True,
    )
    service = serve(server={"tls": {"cert": str(certificate), "key": str(key)}}).ready()
    with Traffic(records):
        # Quick enough for every user to drop its connection within the run.
        finished = run(service, "--ca", str(certificate), "--dense", "--pace", "100")
    assert finished.returncode == 0, finished.stderr + finished.stdout
    rows = statistics(finished)
    assert rows["connect"]["num_requests"] == 6
    for name in ("frame", "ping", "resume"):
        assert rows[name]["num_requests"] > 0, name
    assert all(row["num_failures"] == 0 for row in rows.values())


@pytest.mark.e2e
def test_users_that_are_refused_end_the_run_with_status_1(serve: Callable[..., Service]) -> None:
    service = serve().ready()
    finished = run(service, "--pace", "100", secret="another-secret-of-thirty-two-bytes-or-so")
    assert finished.returncode == 1, finished.stderr
    rows = statistics(finished)
    assert list(rows) == ["connect"]
    assert rows["connect"]["num_failures"] == rows["connect"]["num_requests"] >= 6
