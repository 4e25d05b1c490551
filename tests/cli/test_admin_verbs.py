"""The verbs for a running service, as a shell runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from energyws.testing import Service, eventually
from tests.cli.command import energyws

VERBS = [
    *(["status", "--json"], ["rebalance"], ["roll"], ["reload"], ["drain"]),
    *(["scale", "2"], ["log", "INFO"]),
]


def broken(directory: Path, service: Service, token: str) -> Path:
    """A configuration of which only the section admin is valid."""
    path = directory / "config.yaml"
    path.write_text(
        "kafka: {brokers: 7, brokers: 8, topic: $(NOT_SET)}\n"
        "server: {port: soon, tls: {cert: /nowhere}}\n"
        "auth: {jwt_secret: $(JWT_SECRET), jwt_secret_file: /nowhere}\n"
        "unknown: {key: 1}\n"
        f"admin: {{port: {service.admin_port}, token: {token}}}\n"
    )
    return path


def test_only_the_admin_section_is_needed_and_no_secret(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    service = serve(server={"workers": 1}).ready()
    path = broken(tmp_path, service, "$(ADMIN_TOKEN)")
    for verb in VERBS[:-3]:
        done = energyws(*verb, "--config", str(path), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), verb
    done = energyws("check-config", "--config", str(path), cwd=tmp_path)
    assert done.returncode == 2
    done = energyws("drain", cwd=tmp_path, CONFIG_PATH=str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "closing all connections within 0.2 s; then the service ends\n"
    assert service.wait() == 0


def test_with_an_address_no_configuration_is_read(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    service = serve(server={"workers": 1}).ready()
    admin = ("--admin", f"http://127.0.0.1:{service.admin_port}")
    nowhere = {"CONFIG_PATH": str(tmp_path / "nowhere.yaml")}
    for verb in VERBS[:-3]:
        done = energyws(*verb, *admin, cwd=tmp_path, **nowhere)
        assert (done.returncode, done.stderr) == (0, ""), verb
    done = energyws("scale", "2", *admin, "--config", "nowhere.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "workers: 1 before, 2 now\n")


def test_default_address_needs_no_configuration(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    service = serve().ready()
    # The default port may be taken on this machine; a variable needs no file either.
    where = {"ENERGYWS_ADMIN__PORT": str(service.admin_port)}
    done = energyws("status", cwd=tmp_path, **where)
    assert (done.returncode, done.stderr) == (0, "")
    # As in an image whose CONFIG_PATH is not the service's file.
    done = energyws("status", cwd=tmp_path, CONFIG_PATH="/nowhere.yaml", **where)
    assert (done.returncode, done.stderr) == (0, "")
    done = energyws("status", "--config", "nowhere.yaml", cwd=tmp_path, **where)
    assert done.returncode == 2
    assert "nowhere.yaml: no such file" in done.stderr


def test_token_comes_from_flag_environment_or_file(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    service = serve(admin={"token": "let me"}).ready()
    path = broken(tmp_path, service, "$(ADMIN_TOKEN)")
    config = ("--config", str(path))
    admin = ("--admin", f"http://127.0.0.1:{service.admin_port}")
    for verb in ("status", "rebalance"):
        done = energyws(verb, *config, cwd=tmp_path)
        assert done.returncode == 2
        text = f"{path}:5: admin.token: the environment variable ADMIN_TOKEN is not set"
        assert text in done.stderr
    done = energyws("status", *config, cwd=tmp_path, ADMIN_TOKEN="let me")
    assert (done.returncode, done.stderr) == (0, "")
    done = energyws("rebalance", *admin, cwd=tmp_path)
    assert done.returncode == 1
    assert "requires admin.token: set ENERGYWS_ADMIN__TOKEN" in done.stderr
    for arguments, environment in (
        (config, {"ADMIN_TOKEN": "let me"}),
        (config, {"ENERGYWS_ADMIN__TOKEN": "let me"}),
        ((*config, "--set", "admin.token=let me"), {}),
        (admin, {"ENERGYWS_ADMIN__TOKEN": "let me", "CONFIG_PATH": "nowhere.yaml"}),
        ((*admin, *config), {"ADMIN_TOKEN": "let me"}),
    ):
        done = energyws("rebalance", *arguments, cwd=tmp_path, **environment)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, environment)
    done = energyws("rebalance", *admin, cwd=tmp_path, ENERGYWS_ADMIN__TOKEN="let him")
    assert done.returncode == 1
    assert "does not accept this admin.token" in done.stderr
    assert "let" not in done.stderr


def test_reload_prints_its_outcome(serve: Callable[..., Service], tmp_path: Path) -> None:
    service = serve().ready()
    admin = ("--admin", f"http://127.0.0.1:{service.admin_port}")
    path = service.config_path
    config = json.loads(path.read_text())

    def reload(**server: object) -> subprocess.CompletedProcess[str]:
        path.write_text(json.dumps({**config, "server": {**config["server"], **server}}))
        return energyws("reload", *admin, cwd=tmp_path)

    done = reload()
    assert (done.returncode, done.stdout) == (0, "reloaded; changed: nothing\n")
    done = reload(max_connections=77, port=1)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "reloaded; changed: server.port, server.max_connections",
            "these take effect after a restart only: server.port",
        ],
    )
    assert service.admin("/status")[1]["max_connections"] == 77
    done = reload(max_connections=-1, drain_seconds="soon")
    assert (done.returncode, done.stdout) == (1, "")
    first, *problems = done.stderr.splitlines()
    assert first.endswith(" answers 422: refused: going on as before")
    assert len(problems) == 2
    assert "server.max_connections: found -1" in problems[0]
    assert "server.drain_seconds" in problems[1]
    assert service.admin("/status")[1]["max_connections"] == 77
    service.wait_logged("reload refused", 'trigger="POST /reload"')
    assert "Traceback" not in "\n".join(service.lines)


def test_roll_replaces_every_process(serve: Callable[..., Service], tmp_path: Path) -> None:
    service = serve(server={"workers": 1}).ready()
    before = {child.pid for child in service.children().values()}
    done = energyws("roll", "--admin", f"http://127.0.0.1:{service.admin_port}", cwd=tmp_path)
    assert done.returncode == 0

    def replaced() -> bool:
        now = {child.pid for child in service.children().values()}
        return len(now) == 2 and not now & before

    eventually(replaced, "other processes")


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_service_the_error_is_one_line(verb: list[str], tmp_path: Path) -> None:
    done = energyws(*verb, "--admin", "http://127.0.0.1:1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("energyws: cannot connect to 127.0.0.1:1: Connection refused")
