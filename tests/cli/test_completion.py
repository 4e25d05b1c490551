"""The script for bash, as bash uses it; what is known to matter for other shells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import shtab

from energyws.cli import completion
from energyws.cli.main import command_line
from tests.cli.command import energyws

# The words that bash would offer, one a line. The last argument is being completed.
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_energyws 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "energyws"
    done = energyws("completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(done.stdout)
    return path


def offered(script: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "complete", script, "energyws", *words],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return sorted(done.stdout.split())


def test_bash_completes_verbs(script: Path) -> None:
    assert offered(script, "") == sorted(command_line().verbs)
    assert offered(script, "re") == ["rebalance", "reload"]


def test_bash_completes_options_of_the_verb(script: Path) -> None:
    assert offered(script, "tail", "--c") == ["--cacert", "--count"]
    assert offered(script, "serve", "--") == ["--config", "--help", "--set"]


def test_bash_completes_choices(script: Path) -> None:
    assert offered(script, "log", "") == ["DEBUG", "ERROR", "INFO", "WARNING"]
    assert offered(script, "completion", "z") == ["zsh"]


@pytest.mark.parametrize("words", [("serve", "--config"), ("tail", "--cacert")])
def test_bash_completes_names_of_files(script: Path, words: tuple[str, ...]) -> None:
    (script.parent / "mine.yaml").touch()
    assert offered(script, *words, "mi") == ["mine.yaml"]


def test_shells_are_those_of_the_library() -> None:
    assert set(completion.SHELLS) == set(shtab.SUPPORTED_SHELLS)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_every_verb(shell: str) -> None:
    script = completion.script(command_line().parser, shell)
    assert [verb for verb in command_line().verbs if verb not in script] == []


def test_no_name_of_a_value_has_a_colon() -> None:
    # zsh would run what follows it as a command.
    usages = [verb.format_usage() for verb in command_line().verbs.values()]
    assert [usage for usage in usages if ":" in usage.partition(":")[2]] == []
