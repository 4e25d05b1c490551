"""The verbs, as a shell runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jwt
import orjson
import psutil
import pytest
import yaml

from energyws.testing import SECRET, Records, Service, eventually, token
from tests.cli.command import ROOT, energyws

# As the demo prints it.
TOP = re.compile(r"energyws top --admin (http://127\.0\.0\.1:[0-9]+)$")
# Modules that only Linux or POSIX has, and libraries that the clients do not need.
NOT_EVERYWHERE = [
    *("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "uvloop"),
    *("confluent_kafka", "prometheus_client", "psutil", "pydantic", "rich", "yaml", "zmq"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory set up as the seed's README says: the example, copied."""
    (tmp_path / "config").mkdir()
    example = (ROOT / "config" / "config.example.yaml").read_text()
    (tmp_path / "config" / "config.yaml").write_text(example)
    return tmp_path


def test_token_is_minted_from_the_configured_secret(directory: Path) -> None:
    done = energyws(
        "token",
        "--sub",
        "me",
        "--ttl",
        "15m",
        "--stream",
        "energy",
        cwd=directory,
        JWT_SECRET=SECRET,
    )
    assert (done.returncode, done.stderr) == (0, "")
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["streams"]) == ("me", ["energy"])
    assert claims["exp"] - claims["iat"] == 900


@pytest.mark.parametrize("ttl", ["1", "h", "1w", "-1h", "1.5h", ""])
def test_invalid_duration_is_refused(ttl: str) -> None:
    done = energyws("token", "--sub", "me", f"--ttl={ttl}")
    assert done.returncode == 2
    assert "write 30s, 15m, 1h or 7d" in done.stderr


def test_check_config_prints_the_settings_without_the_secret(directory: Path) -> None:
    done = energyws("check-config", "--set", "server.port=9000", cwd=directory, JWT_SECRET=SECRET)
    assert done.returncode == 0
    printed = yaml.safe_load(done.stdout)
    assert printed["server"]["port"] == 9000
    assert printed["auth"]["jwt_secret"] == "***"
    assert SECRET not in done.stdout + done.stderr


def test_check_config_lists_all_problems_together(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.yaml"
    path.write_text(
        "kafka:\n  broker: x\nserver:\n  port: 99999\nauth:\n  jwt_secret: $(NOWHERE)\n"
    )
    done = energyws("check-config", CONFIG_PATH=str(path))
    assert done.returncode == 2
    assert done.stdout == ""
    for part in ("kafka.brokers", "server.port", "99999", "NOWHERE"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_secret_that_is_a_key_pair_is_found_by_the_check(directory: Path) -> None:
    done = energyws(
        "check-config",
        cwd=directory,
        JWT_SECRET="-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----",
    )
    assert done.returncode == 2
    assert "auth.jwt_secret cannot be used" in done.stderr


def test_option_that_librdkafka_does_not_know_is_found_by_the_check(directory: Path) -> None:
    options = ("--set", "kafka.options.secruity.protocol=SSL")
    done = energyws("check-config", *options, cwd=directory, JWT_SECRET=SECRET)
    assert done.returncode == 2
    assert 'No such configuration property: "secruity.protocol"' in done.stderr


def test_printed_example_is_a_valid_configuration(tmp_path: Path) -> None:
    done = energyws("example-config", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (ROOT / "config" / "config.example.yaml").read_text()
    (tmp_path / "new.yaml").write_text(done.stdout)
    done = energyws("check-config", "--config=new.yaml", cwd=tmp_path, JWT_SECRET=SECRET)
    assert (done.returncode, done.stderr) == (0, "")


def test_schema_is_that_beside_the_example(tmp_path: Path) -> None:
    done = energyws("config-schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "config" / "config.schema.json").read_text()
    done = energyws("config-schema", "--markdown", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "docs" / "configuration.md").read_text()


def elsewhere(platform: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program as if on another system, without the modules that only this one has."""
    lines = [
        # Imported first: both import modules of this system.
        "import asyncio, shutil",
        f"import sys; sys.platform = {platform!r}",
        f"sys.modules.update(dict.fromkeys({NOT_EVERYWHERE!r}))",
    ]
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, program])],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("verb", ["serve", "demo", "check-config"])
def test_service_outside_linux_is_refused_in_one_line(verb: str, platform: str) -> None:
    done = elsewhere(platform, f"from energyws.cli.main import main; sys.exit(main([{verb!r}]))")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"runs on Linux only, and this is {platform}" in line


def test_client_can_be_imported_anywhere() -> None:
    done = elsewhere("win32", "import energyws.client; print(energyws.client.Client)")
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    done = energyws("serve", cwd=tmp_path, CONFIG_PATH="")
    assert done.returncode == 2
    assert "energyws example-config > config/config.yaml" in done.stderr


def test_previous_secret_that_is_a_key_pair_is_found_by_the_check(directory: Path) -> None:
    key = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"
    done = energyws(
        "check-config",
        cwd=directory,
        JWT_SECRET=SECRET,
        ENERGYWS_AUTH__JWT_SECRET_PREVIOUS=key,
    )
    assert done.returncode == 2
    assert "auth.jwt_secret_previous cannot be used" in done.stderr
    assert "PUBLIC KEY" not in done.stderr


def test_token_is_minted_from_the_newest_secret_with_the_configured_claim(
    directory: Path,
) -> None:
    done = energyws(
        "token",
        *("--sub", "me", "--stream", "energy", "--set", "auth.streams_claim=may_read"),
        cwd=directory,
        JWT_SECRET=SECRET,
        ENERGYWS_AUTH__JWT_SECRET_PREVIOUS="the-secret-before-of-more-than-32-bytes",
    )
    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"])
    assert claims["may_read"] == ["energy"]
    assert "streams" not in claims


def test_token_names_keys_in_the_configured_claim(directory: Path) -> None:
    keys = ("--key", "a", "--key", "b*", "--key", "*")
    done = energyws(
        *("token", "--sub", "me", "--set", "auth.keys_claim=meters", *keys),
        cwd=directory,
        JWT_SECRET=SECRET,
    )
    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"])
    assert claims["meters"] == ["a", "b*", "*"]
    assert "keys" not in claims


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_key_that_no_record_can_have_is_refused(key: str) -> None:
    done = energyws("token", "--sub", "me", f"--key={key}")
    assert done.returncode == 2
    assert "argument --key: a key has 1 to 256 bytes" in done.stderr


@pytest.mark.e2e
def test_tail_prints_frames_and_resumes_from_a_printed_position(
    serve: type[Service], records: Records
) -> None:
    service = serve().ready()
    records.send(9)
    service.caught_up(records)
    done = energyws("tail", service.url, "--last", "9", "--count", "6", WS_TOKEN=token())
    assert (done.returncode, done.stderr) == (0, "")
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6
    assert {"stream", "timestamp", "data", "position"} == set(lines[0])
    resume = f"energy:{lines[-1]['position']}"
    done = energyws("tail", service.url, "--resume", resume, "--count", "3", WS_TOKEN=token())
    rest = [orjson.loads(line)["data"]["n"] for line in done.stdout.splitlines()]
    assert sorted([line["data"]["n"] for line in lines] + rest) == list(range(9))


@pytest.mark.e2e
def test_tail_with_a_bad_token_is_refused(serve: type[Service]) -> None:
    service = serve().ready()
    done = energyws("tail", service.url, WS_TOKEN="nonsense")
    assert done.returncode == 1
    assert done.stderr == "energyws: HTTP 401: Invalid token\n"


def test_scale_and_rebalance_print_their_outcome(serve: Callable[..., Service]) -> None:
    service = serve(server={"workers": 1}, admin={"token": "let me"}).ready()
    config = ("--config", str(service.config_path))
    admin = ("--admin", f"http://127.0.0.1:{service.admin_port}")
    done = energyws("scale", "2", *config, *admin)
    assert (done.returncode, done.stdout) == (0, "workers: 1 before, 2 now\n")
    eventually(lambda: "worker-1" in service.children(), "another worker")
    done = energyws("rebalance", *config, *admin)
    assert (done.returncode, done.stdout) == (0, "no worker has more than its share\n")
    done = energyws("scale", "99", *config, *admin)
    assert done.returncode == 1
    assert "N from 1 to 64" in done.stderr
    done = energyws("scale", "2", *config, "--admin", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot connect to 127.0.0.1:1" in done.stderr


def test_status_prints_text_or_json(serve: Callable[..., Service], records: Records) -> None:
    service = serve(admin={"token": "let me"}).ready()
    records.send(9)
    service.caught_up(records)
    config = ("--config", str(service.config_path))
    admin = ("--admin", f"http://127.0.0.1:{service.admin_port}")
    done = energyws("status", *config, *admin)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith(": ready")
    assert lines[1].startswith("workers 2 of 2 ready · clients 0 of ")
    for name in ("supervisor", "consumer", "worker-0", "worker-1", "energy/0", "energy/2"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 1
    done = energyws("status", "--json", *config, *admin)
    assert (done.returncode, done.stderr) == (0, "")
    shown = orjson.loads(done.stdout)
    assert (shown["ready"], shown["workers_wanted"]) == (True, 2)
    assert [each["name"] for each in shown["processes"]] == [
        *("supervisor", "consumer", "worker-0", "worker-1")
    ]
    assert sum(each["next_offset"] for each in shown["partitions"]) == 9
    done = energyws("status", "--json", *config, "--admin", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot connect to 127.0.0.1:1" in done.stderr
    assert "let me" not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:x", "localhost:8490"),
        *("http://", "http://[::1", "http://a b:1", "http://127.0.0.1:99999", ""),
    ],
)
def test_invalid_admin_address_is_refused(url: str, directory: Path) -> None:
    done = energyws("status", "--admin", url, cwd=directory, JWT_SECRET=SECRET)
    assert (done.returncode, done.stderr) == (
        1,
        "energyws: --admin: use http://HOST:PORT or unix:PATH\n",
    )


def test_demo_shows_readings_and_leaves_no_process() -> None:
    done = energyws("demo", "--port=0", "--workers=1", "--count=3")
    assert done.returncode == 0
    assert "ws://127.0.0.1:" in done.stdout
    assert (
        len([line for line in done.stdout.splitlines() if line.endswith(" W") or " W  " in line])
        == 3
    )


def test_demo_in_the_background_can_be_watched_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "energyws.cli", "demo", "--port=0", "--workers=1"]
    with subprocess.Popen(
        # As a script starts what it puts into the background: SIGINT is ignored by inheritance.
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as demo:
        assert demo.stdout is not None
        (url,) = next(found for line in demo.stdout if (found := TOP.findall(line)))
        done = energyws("status", "--admin", url, cwd=tmp_path)
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        demo.wait(30)
    assert (done.returncode, done.stderr, demo.returncode) == (0, "", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_demo_that_is_ended_leaves_no_process(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "energyws.cli", "demo", "--port=0", "--workers=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if " W  " in line:
                break
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) >= 5
        demo.send_signal(number)
        demo.stdout.read()
        demo.wait(30)

    def gone(process: psutil.Process) -> bool:
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    eventually(
        lambda: all(gone(process) for process in family), "every process of the demo has ended", 10
    )
