from __future__ import annotations

import pytest

from energyws.cli.mistakes import about_options, about_verb

VERBS = ("demo", "example-config", "check-config", "serve", "scale", "status", "roll", "drain")
USAGE = "usage: energyws tail [-h] [--token TOKEN] [--last N | --since TIME] [--count N]"


@pytest.mark.parametrize(
    ("first", "meant"),
    [
        ("sevre", "serve"),
        ("SERVE", "serve"),
        ("stat", "status"),
        ("check", "check-config"),
        ("check_config", "check-config"),
        ("start", "serve"),
        ("restart", "roll"),
        ("stop", "drain"),
        ("help", "--help"),
        ("version", "--version"),
    ],
)
def test_verb_that_was_meant_is_named(first: str, meant: str) -> None:
    assert about_verb([first], VERBS) == (
        f"there is no verb {first}; did you mean energyws {meant}?"
    )


def test_word_that_is_like_no_verb_is_led_to_the_help() -> None:
    assert about_verb(["xyzzy"], VERBS) == "there is no verb xyzzy; energyws --help lists them"


@pytest.mark.parametrize("first", ["eyJhbGciOiJIUzI1NiJ9.e30.x", "x" * 21, "", "1", "a b"])
def test_argument_that_may_be_a_secret_is_not_repeated(first: str) -> None:
    assert about_verb([first], VERBS) == (
        "the first argument is no verb; energyws --help lists them"
    )


def test_url_without_a_verb_is_led_to_tail() -> None:
    message = about_verb(["wss://host/ws/energy?token=secret"], [*VERBS, "tail"])
    assert message == "a verb comes first: energyws tail URL prints what a service sends"


@pytest.mark.parametrize("first", ["--set=server.port=1", "--set"])
def test_option_before_the_verb_is_told_its_place(first: str) -> None:
    message = about_verb([first, "server.port=1", "serve"], VERBS)
    assert message == "options come after the verb: energyws serve --set …"


@pytest.mark.parametrize(
    "arguments", [["serve", "x"], ["--help"], ["-h"], ["--version", "serve"], ["--vers"]]
)
def test_verb_or_option_of_the_command_is_no_mistake(arguments: list[str]) -> None:
    assert about_verb(arguments, VERBS) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conut", "3"], "there is no option --conut; did you mean --count?"),
        (["--conut=3"], "there is no option --conut; did you mean --count?"),
        (["--last", "3", "--quiet"], "there is no option --quiet"),
    ],
)
def test_option_that_was_meant_is_named(arguments: list[str], message: str) -> None:
    assert about_options(arguments, USAGE) == message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--count", "3"],
        ["--co=3"],
        ["--help"],
        ["-5"],
        ["--", "--conut"],
        ["--since", "2026-01-01"],
    ],
)
def test_arguments_that_argparse_takes_are_no_mistake(arguments: list[str]) -> None:
    assert about_options(arguments, USAGE) is None


def test_usage_in_colours_has_the_same_options() -> None:
    # As Python 3.14 prints it to a terminal.
    coloured = "usage: [\x1b[32m-h\x1b[0m] [\x1b[36m--count \x1b[33mN\x1b[0m]"
    assert about_options(["--count", "3"], coloured) is None
