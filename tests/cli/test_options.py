"""The options for the configuration, and the sections that verbs load with them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from energyws.cli.options import add_config, load, load_admin, load_token, names_admin
from energyws.errors import ConfigError
from energyws.settings import Admin

CONFIG = """\
kafka: {brokers: b, topic: t}
auth: {jwt_secret: a-secret-of-more-than-thirty-two-bytes}
admin: {port: 1234, token: $(ADMIN_TOKEN)}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without a configuration, and an environment that names none."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG_PATH", "ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(CONFIG)
    return path


def test_file_is_the_option_or_the_variable_or_the_default(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "t")
    assert load(options("--config", str(file))).admin.port == 1234
    with pytest.raises(ConfigError, match=r"config/config\.yaml: no such file"):
        load(options())
    monkeypatch.setenv("CONFIG_PATH", str(file))
    assert load(options()).admin.port == 1234
    assert load(options("--set", "admin.port=5")).admin.port == 5
    monkeypatch.setenv("CONFIG_PATH", "")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(CONFIG.replace("1234", "4321"))
    assert load(options()).admin.port == 4321


def test_admin_section_needs_no_file_and_no_token(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_admin(options()) == Admin()
    assert load_admin(options("--config", str(file))) == Admin(port=1234)
    with pytest.raises(ConfigError, match="ADMIN_TOKEN is not set"):
        load_admin(options("--config", str(file)), token=True)
    with pytest.raises(ConfigError, match="no such file"):
        load_admin(options("--config", "nowhere.yaml"))
    # CONFIG_PATH may be meant for another machine.
    monkeypatch.setenv("CONFIG_PATH", "nowhere.yaml")
    assert load_admin(options()) == Admin()


def test_token_comes_from_the_file_last(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ("--config", str(file))
    assert load_token(options()) is None
    assert load_token(options(*config, "--set", "admin.token=flag")) == "flag"
    monkeypatch.setenv("ADMIN_TOKEN", "file")
    assert load_token(options(*config)) == "file"
    monkeypatch.setenv("ENERGYWS_ADMIN__TOKEN", "variable")
    assert load_token(options(*config)) == "variable"
    assert load_token(options("--config", "nowhere.yaml")) == "variable"


def test_demo_is_meant_only_where_nothing_names_a_service(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not names_admin(options())
    assert names_admin(options("--config", str(file)))
    assert names_admin(options("--set", "admin.port=5"))
    for variable in ("CONFIG_PATH", "ENERGYWS_ADMIN__PORT"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "5")
            assert names_admin(options())
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(CONFIG)
    assert names_admin(options())
