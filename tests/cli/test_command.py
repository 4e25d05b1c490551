"""Every verb's help and examples, and what the command line answers to mistakes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

import energyws.version
from energyws.cli import main
from energyws.cli.main import command_line

VERBS = sorted(command_line().verbs)
COLUMNS = 80


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    # Python 3.14 has colours.
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def helped(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    captured = capsys.readouterr()
    assert (ended.value.code, captured.err) == (0, "")
    return captured.out


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error; the ones before are the usage."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    return captured.err.splitlines()[-1]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_one_sentence_and_one_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = helped(verb, "--help", capsys=capsys)
    assert text.startswith(f"usage: energyws {verb} ")
    assert max(map(len, text.splitlines())) <= COLUMNS
    _, sentence, *_ = text.split("\n\n")
    assert re.fullmatch(r"[A-Z]([^.]|\.(?! ))+\.", " ".join(sentence.split()))
    *_, example = text.rstrip().split("\n\n")
    assert re.fullmatch(rf"example:\n  energyws {verb}( .*)?", example)


@pytest.mark.parametrize("verb", VERBS)
def test_example_of_a_verb_can_be_used(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = helped(verb, "--help", capsys=capsys).rstrip().splitlines()[-1]
    arguments = shlex.split(line.partition(" >")[0])[1:]
    assert callable(command_line().parse(arguments).run)


def test_help_has_every_verb_in_the_order_of_their_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = helped("--help", capsys=capsys)
    assert max(map(len, text.splitlines())) <= COLUMNS
    listed = re.findall(r"^  ([a-z-]+)  +[a-z]", text, re.MULTILINE)
    assert sorted(listed) == VERBS
    assert listed[0] == "demo"
    assert listed.index("serve") < listed.index("status") < listed.index("drain")


def test_no_verb_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped("--help", capsys=capsys)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert (ended.value.code, capsys.readouterr().err) == (2, text)


def test_version_is_read_only_when_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energyws.version, "installed", lambda: "7.8.9")
    assert helped("--version", capsys=capsys) == "7.8.9\n"
    monkeypatch.setattr(energyws.version, "installed", lambda: pytest.fail("read"))
    helped("--help", capsys=capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serv", "energyws: there is no verb serv; did you mean energyws serve?"),
        ("serve --confg x", "energyws serve: error: there is no option --confg; did you mean"),
        ("scale --admn http://127.0.0.1:1 2", "there is no option --admn; did you mean --admin?"),
        ("--config x serve", "energyws: options come after the verb: energyws serve --config …"),
        ("scale 2 3", "energyws scale: error: more arguments than it takes"),
        ("--config x", "energyws: a verb comes first; energyws --help lists them"),
        ("tail", "energyws tail: error: the following arguments are required: URL"),
    ],
)
def test_mistake_is_told_what_was_meant(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(*line.split(), capsys=capsys)


@pytest.mark.parametrize(
    "line",
    [
        "JWT.JWT.JWT",
        "ws://localhost:8080/ws/energy?token=JWT",
        "--token JWT",
        "--token=JWT tail ws://localhost/",
        "--token JWT tail ws://localhost/",
        "tail --tokne=JWT ws://localhost/",
        "tail --tokne JWT ws://localhost/",
        "tail ws://localhost/ JWT",
    ],
)
def test_mistake_prints_no_token(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(line.split())
    captured = capsys.readouterr()
    assert "JWT" not in (captured.out + captured.err).replace("the JWT", "")


def test_beginning_of_an_option_is_the_option() -> None:
    options = command_line().parse(["scale", "--adm", "http://127.0.0.1:1", "2"])
    assert (options.admin, options.workers) == ("http://127.0.0.1:1", 2)


def test_help_imports_nothing_that_takes_long() -> None:
    program = (
        "import sys; from energyws.cli.main import command_line; command_line(); "
        "print(*{each.partition('.')[0] for each in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    slow = {
        "asyncio",
        "pydantic",
        "yaml",
        "uvloop",
        "picows",
        "importlib.metadata",
        "rich",
        "shtab",
    }
    assert slow & set(done.stdout.split()) == set()
