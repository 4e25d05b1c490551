from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.config import load
from energyws.control.config.origins import NoOrigin, normalised
from energyws.control.config.rules import warnings
from tests.control.configs import GOOD, problems_of


def loaded(*origins: str) -> tuple[str, ...]:
    text = GOOD + f"server: {{allowed_origins: {list(origins)!r}}}\n"
    return load.parse(text, "c.yaml", {}).server.allowed_origins


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://dashboard.example", "https://dashboard.example"),
        ("https://dashboard.example/", "https://dashboard.example"),
        ("https://Dashboard.Example", "https://dashboard.example"),
        ("HTTPS://dashboard.example", "https://dashboard.example"),
        ("https://dashboard.example:443", "https://dashboard.example"),
        ("http://dashboard.example:80/", "http://dashboard.example"),
        ("http://dashboard.example:443", "http://dashboard.example:443"),
        ("https://dashboard.example:8443", "https://dashboard.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        (" https://dashboard.example ", "https://dashboard.example"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("http://192.168.1.5", "http://192.168.1.5"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("moz-extension://0F3A", "moz-extension://0f3a"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("null", "null"),
    ],
)
def test_origin_is_normalised_to_the_form_that_browsers_send(written: str, sent: str) -> None:
    assert loaded(written) == (sent,)


@pytest.mark.parametrize("others", [(), ("https://dashboard.example",)])
def test_star_allows_all_pages(others: tuple[str, ...]) -> None:
    assert loaded("*", *others) == ()


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("dashboard.example", "no scheme: start with https://"),
        ("dashboard.example:8443", "no scheme: start with https://"),
        ("//dashboard.example", "no scheme: start with https://"),
        ("https://a b", "use scheme://host or scheme://host:port"),
        ("https://$$(page)", "use scheme://host or scheme://host:port"),
        ("", "no scheme: start with https://"),
        ("https://", "use scheme://host or scheme://host:port"),
        ("https://dashboard.example:port", "use scheme://host or scheme://host:port"),
        ("https://dashboard.example/app", "an origin ends with the host or its port: remove"),
        ("https://dashboard.example?a", "an origin ends with the host or its port: remove"),
        ("https://me@dashboard.example", "an origin has no user name: remove it"),
        ("https://*.example", "patterns are not supported: list each origin, or use * for all"),
        ("https://*", "patterns are not supported: list each origin, or use * for all pages"),
        ("wss://dashboard.example", "a page's origin starts with https://: use that"),
        ("https://münchen.example", "write the host as browsers send it, in Punycode (xn--…)"),
        ("http://[zz::1]", "use scheme://host or scheme://host:port"),
    ],
)
def test_invalid_origin_is_a_problem(written: str, why: str) -> None:
    text = GOOD + f'server:\n  allowed_origins: ["https://fine.example", "{written}"]\n'
    (problem,) = problems_of(text)
    assert problem.startswith("c.yaml:4: server.allowed_origins[1]: found ")
    assert f": {why}" in problem


def test_problem_does_not_show_the_value_of_a_variable() -> None:
    text = GOOD + 'server: {allowed_origins: ["$(PAGE)", "https://$(PAGE)/x"]}\n'
    problems = problems_of(text, {"PAGE": "hidden.example"})
    assert len(problems) == 2
    assert "hidden" not in "".join(problems)


def test_null_is_accepted_and_warned_of() -> None:
    settings = load.parse(GOOD + "server: {allowed_origins: ['null']}\n", "c.yaml", {})
    (warning,) = warnings(settings)
    assert warning.startswith("server.allowed_origins: null is what browsers send for files")


@given(st.text())
def test_normalised_origins_stay_as_they_are(text: str) -> None:
    try:
        once = normalised(text)
    except NoOrigin:
        return
    assert normalised(once) == once
