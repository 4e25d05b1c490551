"""A few attacks on the real service: what must not happen, however busy the machine is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.attacks.classes import ATTACKS
from bench.attacks.stage import Stage
from bench.attacks.tree import Tree
from bench.attacks.verdict import Trial, broken, figures

pytestmark = [pytest.mark.e2e, pytest.mark.edge]
TREE = Tree()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(TREE, ATTACKS["token-takes-all"], settle=0.2) as ready:
        yield ready


def tried(stage: Stage, name: str) -> Trial:
    attack = ATTACKS[name]
    trial = stage.tried(attack, 0.3, 1)
    assert broken(attack, figures(attack, trial, 5.0), trial.attacker, TREE.keys) == []
    return trial


def test_nobody_reads_what_comes_after_a_refusal(stage: Stage) -> None:
    seen = tried(stage, "refused").attacker
    assert seen["closed"] > 0


def test_nobody_reads_what_comes_after_a_close(stage: Stage) -> None:
    seen = tried(stage, "closed").attacker
    assert seen["closed"] > 0


def test_token_gets_no_more_than_its_share(stage: Stage) -> None:
    seen = tried(stage, "token-takes-all").attacker
    assert seen["status 101"] > 0


def test_dear_requests_are_refused(stage: Stage) -> None:
    seen = tried(stage, "queries").attacker
    assert [name for name in seen if name.startswith("status")] == ["status 401"]


def test_descriptors_of_reset_connections_are_free_again(stage: Stage) -> None:
    trial = tried(stage, "reset-half-requests")
    assert trial.attacker["reset"] > 0
    # Of probes that happen to be under way.
    few = 5
    assert trial.after.descriptors <= trial.before.descriptors + few
