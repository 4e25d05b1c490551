"""The admin port, its socket, and the port for metrics, as operators and Prometheus meet them."""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.admin.ports import AdminPorts
from energyws.errors import BootError
from energyws.settings import Admin

TOKEN = "a-token-of-an-operator"


def ports(admin: Admin) -> AdminPorts:
    return AdminPorts(
        admin,
        {path: lambda: (200, {"ok": True}) for path in ("/live", "/ready", "/status")},
        {"/metrics": lambda accept: ("text/plain", b"energyws_up 1\n")},
        {"/roll": lambda body: (200, {"replacing": True})},
    )


def status(port: int | None, path: str, data: bytes | None = None, **headers: str) -> int:
    url = f"http://127.0.0.1:{port}{path}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers), timeout=5
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            json.load(refusal)
            return refusal.code


def test_metrics_port_answers_probes_and_metrics_only() -> None:
    made = ports(Admin(port=0, token=TOKEN, metrics_port=0))
    try:
        found = {path: status(made.metrics_port, path) for path in ("/live", "/ready", "/metrics")}
        assert set(found.values()) == {200}
        assert status(made.metrics_port, "/status") == 404
        assert status(made.metrics_port, "/roll", b"null", Authorization=f"Bearer {TOKEN}") == 404
        assert status(made.port, "/metrics") == 401
        assert status(made.port, "/live") == 200
        assert status(made.port, "/metrics", Authorization=f"Bearer {TOKEN}") == 200
    finally:
        made.close()


def test_new_token_and_hosts_are_used_at_once() -> None:
    made = ports(Admin(port=0, metrics_port=0))
    try:
        assert status(made.port, "/status", Host="node1.example") == 421
        assert status(made.metrics_port, "/metrics", Host="node1.example") == 421
        made.use(Admin(port=0, metrics_port=0, hosts=("node1.example",)))
        assert status(made.port, "/status", Host="node1.example") == 200
        assert status(made.metrics_port, "/metrics", Host="node1.example") == 200
        made.use(Admin(port=0, metrics_port=0, token=TOKEN))
        assert status(made.port, "/status") == 401
    finally:
        made.close()


def test_client_on_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    made = ports(Admin(socket=path))
    try:
        assert made.port == 0
        for client in (AdminClient(Admin(socket=path)), AdminClient(Admin(), f"unix:{path}")):
            assert client.where == path
            assert client.get("/status") == {"ok": True}
            assert client.post("/roll", None, "replacing") == {"replacing": True}
    finally:
        made.close()
    assert not os.path.exists(path)
    with pytest.raises(AdminRequestFailed, match=r"cannot connect to .*: No such file"):
        AdminClient(Admin(socket=path)).get("/status")


def test_taken_metrics_port_leaves_nothing_open(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    first = ports(Admin(port=0, metrics_port=0))
    try:
        with pytest.raises(BootError, match=r"^admin\.metrics_host, admin\.metrics_port: cannot"):
            ports(Admin(socket=path, metrics_port=first.metrics_port))
    finally:
        first.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("admin", "logged"),
    [
        (Admin(port=0), ["admin listening"]),
        (
            Admin(socket="admin.sock", metrics_port=0),
            ["admin listening on a socket", "metrics served"],
        ),
    ],
)
def test_log_says_where(
    admin: Admin,
    logged: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    made = ports(admin)
    try:
        with caplog.at_level(logging.INFO):
            made.announce()
    finally:
        made.close()
    assert [record.getMessage() for record in caplog.records] == logged
