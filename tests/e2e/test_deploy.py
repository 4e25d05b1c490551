"""Operations on a running service: no client is refused or misses a record."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from energyws.auth.verifier import mint
from energyws.testing import (
    PATIENCE_SECONDS,
    SECRET,
    Broker,
    Records,
    Service,
    Traffic,
    config,
    eventually,
    token,
)
from tests.clients import open_peer
from tests.watchers import Watchers

pytestmark = pytest.mark.e2e

OTHER: Final = "another-secret-of-more-than-thirty-two-bytes"
PRIVATE_KEY: Final = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"


class NewClients:
    """Connects clients, one after the other, and notes each that is refused."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.accepted = 0
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {token('new-client')}"}
        while not self._stop.is_set():
            try:
                async with connect(self._url, additional_headers=headers):
                    self.accepted += 1
            except ConnectionClosed:
                # The service accepted the client, and then shed it.
                self.accepted += 1
            except (OSError, InvalidHandshake, TimeoutError) as error:
                self.refused.append(repr(error))


def names(service: Service, state: str = "ready") -> list[str]:
    """The children that are in this state."""
    return sorted(c["name"] for c in service.admin("/workers")[1] if c["state"] == state)


def post(service: Service, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a POST to the admin port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.admin_port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def workers(count: int) -> list[str]:
    return ["consumer", *(f"worker-{slot}" for slot in range(count))]


def settled(service: Service, count: int) -> None:
    """Wait until `count` workers are ready and there are no other workers."""
    eventually(
        lambda: names(service) == workers(count) and len(service.children()) == count + 1,
        f"{count} workers and no others",
    )


def test_scaling_refuses_no_client_and_loses_nothing(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    with Watchers(service.url, 40) as watchers, NewClients(service.url) as new_clients:
        with Traffic(records) as traffic:
            assert post(service, "/workers", {"workers": 4}) == (200, {"workers": 4, "before": 1})
            settled(service, 4)
            served = new_clients.accepted + 20
            eventually(lambda: new_clients.accepted > served, "new clients are accepted")
            service.signal(signal.SIGTTOU)
            service.wait_logged("scaling workers=3")
            service.signal(signal.SIGTTOU)
            settled(service, 2)
            traffic.more(50)
            service.signal(signal.SIGTTIN)
            settled(service, 3)
        watchers.have(list(range(records.sent)))
    assert new_clients.refused == []
    assert not service.logged("killing")


def test_all_processes_are_replaced_unnoticed_by_clients(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve().ready()
    before = {name: process.pid for name, process in service.children().items()}
    with Watchers(service.url, 40) as watchers, NewClients(service.url) as new_clients:
        with Traffic(records) as traffic:
            service.signal(signal.SIGUSR2)
            for name in before:
                service.wait_logged("child replaced", f"child={name}")
            settled(service, 2)
            traffic.more(50)
        watchers.have(list(range(records.sent)))
        after = {name: process.pid for name, process in service.children().items()}
    assert after.keys() == before.keys()
    assert not before.items() & after.items()
    assert new_clients.refused == []
    assert not service.logged(" ERROR ")


def test_worker_terminated_by_hand_is_replaced_and_no_client_is_refused(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    victim = service.children()["worker-0"]
    with Watchers(service.url, 20) as watchers, NewClients(service.url) as new_clients:
        with Traffic(records) as traffic:
            victim.terminate()
            eventually(lambda: not victim.is_running(), "the worker has ended")
            settled(service, 1)
            traffic.more(30)
        watchers.have(list(range(records.sent)))
    assert new_clients.refused == []


class Configured:
    """A service whose configuration file a test edits."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self._path = path
        self.config: dict[str, Any] = json.loads(path.read_text())

    def edit(self, section: str, **values: Any) -> None:
        """Change the section, and make the service read the file."""
        self.config[section] = {**self.config.get(section, {}), **values}
        self.write(json.dumps(self.config))

    def write(self, text: str) -> None:
        self._path.write_text(text)
        self.service.signal(signal.SIGHUP)

    def adopted(self, count: int, field: str = "reloads") -> None:
        """Wait until every child has reloaded `count` times, as the figure `field` counts."""

        def everywhere() -> bool:
            boards = self.service.boards()
            return bool(boards) and all(board[field] == count for board in boards.values())

        eventually(everywhere, f"{count} {field}")


@pytest.fixture
def configured(serve: Callable[..., Service], tmp_path: Path) -> Callable[..., Configured]:
    def start(**sections: Any) -> Configured:
        service = serve(**sections).ready()
        # /ready needs the first worker only.
        settled(service, 2)
        return Configured(service, tmp_path / "service-0" / "config.yaml")

    return start


def accepts(service: Service, secret: str) -> bool:
    """Whether the service accepts a token signed with this secret."""

    async def attempt() -> bool:
        bearer = mint(secret, "somebody", 60, time.time())
        try:
            async with connect(
                service.url, additional_headers={"Authorization": f"Bearer {bearer}"}
            ):
                return True
        except InvalidStatus as refused:
            return refused.response.status_code != 401

    return asyncio.run(attempt())


def test_new_secret_beside_the_previous_one_disconnects_nobody(
    configured: Callable[..., Configured], records: Records
) -> None:
    running = configured()
    service = running.service
    pids = {name: process.pid for name, process in service.children().items()}
    with Watchers(service.url, 6) as watchers:
        with Traffic(records) as traffic:
            running.edit("auth", jwt_secret=OTHER, jwt_secret_previous=SECRET)
            running.adopted(1)
            traffic.more(30)
        watchers.have(list(range(records.sent)))
        assert [client.connects for client in watchers.clients] == [1] * 6
    assert accepts(service, OTHER)
    assert accepts(service, SECRET)
    assert not accepts(service, "another secret of more than thirty-two bytes")
    assert {name: process.pid for name, process in service.children().items()} == pids
    assert not any(OTHER in line or SECRET in line for line in service.lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kafka: {", "cannot be read"),
        ("{}", "kafka.brokers: missing"),
        ("server: {max_conections: 5}", "did you mean server.max_connections"),
    ],
)
def test_bad_file_is_refused_and_the_old_settings_stay(
    configured: Callable[..., Configured], text: str, reason: str
) -> None:
    running = configured()
    running.write(text)
    running.service.wait_logged("reload refused", reason)
    assert accepts(running.service, SECRET)
    running.edit("auth", jwt_secret=OTHER)
    running.adopted(1)
    assert accepts(running.service, OTHER)


@pytest.mark.parametrize(
    ("section", "values", "reason", "victim"),
    [
        ("kafka", {"options": {"no.such.option": "x"}}, "No such configuration", "consumer"),
        ("auth", {"jwt_secret": PRIVATE_KEY}, "auth.jwt_secret cannot be used", "worker-0"),
    ],
    ids=["kafka", "auth"],
)
def test_fault_that_only_a_child_finds_is_refused_before_any_child_has_it(
    configured: Callable[..., Configured],
    records: Records,
    section: str,
    values: dict[str, Any],
    reason: str,
    victim: str,
) -> None:
    running = configured()
    service = running.service
    running.edit(section, **values)
    service.wait_logged("reload refused", reason)
    at_fault = {"kafka": "configuration", "auth": "secret"}[section]
    url = f"http://127.0.0.1:{service.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        text = answer.read().decode()
    assert f'energyws_reload_refusals_total{{reason="{at_fault}"}} 1.0' in text
    # A new child does not have the refused settings either.
    before = service.children()[victim]
    before.kill()
    eventually(lambda: not before.is_running(), "the child is dead")
    settled(service, 2)
    assert accepts(service, SECRET)
    assert not any("PRIVATE KEY" in line for line in service.lines)
    with open_peer(service) as peer:
        peer.subscribe()
        sent = records.send(3)
        assert sorted(peer.numbers(3)) == sent


def test_key_that_a_running_process_cannot_adopt_replaces_it_or_is_named(
    configured: Callable[..., Configured], records: Records
) -> None:
    running = configured()
    service = running.service
    pids = {name: process.pid for name, process in service.children().items()}
    with Watchers(service.url, 6) as watchers:
        with Traffic(records) as traffic:
            running.edit("server", port=1, workers=3)
            service.wait_logged("changed keys take effect only after a restart", "keys=server.port")
            settled(service, 3)
            running.edit("kafka", commit_interval_seconds=1.0)
            service.wait_logged("child replaced", "child=consumer")
            settled(service, 3)
            traffic.more(30)
        watchers.have(list(range(records.sent)))
    after = {name: process.pid for name, process in service.children().items()}
    assert {name for name in pids if pids[name] != after[name]} == {"consumer"}


def test_flipped_secret_and_certificate_are_noticed(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    put_secret(tmp_path, "1", SECRET)
    mounted = {name: str(tmp_path / "..data" / name) for name in ("tls.crt", "tls.key", "jwt")}
    service = serve(
        server={"tls": {"cert": mounted["tls.crt"], "key": mounted["tls.key"]}},
        auth={"jwt_secret_file": mounted["jwt"]},
    ).ready()
    settled(service, 2)
    address = ("127.0.0.1", service.port)
    old = ssl.get_server_certificate(address)
    put_secret(tmp_path, "2", OTHER)
    eventually(lambda: ssl.get_server_certificate(address) != old, "another certificate")
    service.wait_logged("reloaded", 'trigger="a file has changed"', "auth.jwt_secret")
    # A certificate and a key that do not match.
    (tmp_path / "..2" / "tls.key").write_bytes((tmp_path / "..1" / "tls.key").read_bytes())
    service.wait_logged("reload refused", "do not go together")
    new = ssl.get_server_certificate(address)
    assert new == (tmp_path / "..2" / "tls.crt").read_text()


def put_secret(mount: Path, version: str, secret: str) -> None:
    """Write a mounted secret's next version as kubelet does: with one rename."""
    directory = mount / f"..{version}"
    directory.mkdir()
    (directory / "jwt").write_text(f"{secret}\n")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=localhost -keyout {directory}/tls.key -out {directory}/tls.crt".split(),
        check=True,
        capture_output=True,
    )
    (mount / "..tmp").symlink_to(directory.name)
    (mount / "..tmp").replace(mount / "..data")


def test_rebalancing_moves_clients_to_the_empty_worker(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    with Watchers(service.url, 40) as watchers:
        with Traffic(records) as traffic:
            post(service, "/workers", {"workers": 2})
            settled(service, 2)
            assert post(service, "/rebalance", None) == (200, {"shed": {"worker-0": 20}})

            def loads() -> list[int]:
                children = service.admin("/workers")[1]
                return [c["board"]["connections"] for c in children if c["name"] != "consumer"]

            # The last one or two clients may be on either worker.
            eventually(
                lambda: sum(loads()) == 40 and min(loads()) >= 18, "the workers have equal shares"
            )
            traffic.more(30)
        watchers.have(list(range(records.sent)))
        assert sum(client.connects for client in watchers.clients) == 60


def test_commands_need_the_admin_token(serve: Callable[..., Service]) -> None:
    service = serve(admin={"token": "let me"}).ready()
    body = {"workers": 2}
    assert post(service, "/workers", body)[0] == 401
    assert post(service, "/workers", body, Authorization="Bearer let you")[0] == 401
    assert post(service, "/workers", body, Authorization="Bearer let me")[0] == 200
    assert not service.logged("let me")


@pytest.mark.parametrize("body", [None, {}, {"workers": 0}, {"workers": 65}, {"workers": True}])
def test_invalid_body_scales_nothing(shared: tuple[Service, Records], body: Any) -> None:
    status, answer = post(shared[0], "/workers", body)
    assert status == 400
    assert "N from 1 to 64" in answer["error"]


def test_request_from_a_web_page_scales_nothing(
    shared: tuple[Service, Records],
) -> None:
    status, _ = post(shared[0], "/workers", {"workers": 1}, Origin="http://localhost:8490")
    assert status == 403


def test_closed_terminal_drains_and_sighup_from_elsewhere_reloads(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config(broker.bootstrap, topic)))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            sys.executable, [sys.executable, "-m", "energyws.cli", "serve", f"--config={path}"]
        )
    output = b""

    def printed(text: bytes) -> bool:
        nonlocal output
        output += os.read(terminal, 65536)
        return text in output

    eventually(lambda: printed(b"worker-1 ready"), "the service runs")
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: printed(b"reloaded trigger=SIGHUP"), "the service has reloaded")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
