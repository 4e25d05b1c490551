from __future__ import annotations

from pathlib import Path

from bench.attacks.tree import LIMITS, Tree, known_keys, merged

EXAMPLE = """\
# server: a comment
server:
  # listen address
  host: "0.0.0.0"
  #tls: {cert: "/a.crt", key: "/a.key"}  # not set: PEM files
# A remark in between: with a colon.
#streams: {energy: {topic: "readings"}}  # not set

limits:  # how much one may take
  #connections_per_address: 100  # not set
"""


def test_keys_are_those_of_the_example_also_if_commented_out() -> None:
    assert known_keys(EXAMPLE) == {"server.host", "server.tls", "limits.connections_per_address"}


def test_keys_of_this_tree_are_found() -> None:
    keys = Tree().keys
    assert {"server.dashboard", "history.max_frames", "auth.jwt_secret", "log.level"} <= keys


def test_tree_runs_without_the_keys_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.example.yaml").write_text(EXAMPLE)
    tree = Tree(tmp_path)
    sections = merged(LIMITS, {"server": {"host": "::1", "dashboard": True}, "bus": {"x": 1}})
    assert tree.fitting(sections) == {
        "server": {"host": "::1"},
        "limits": {"connections_per_address": 100},
    }
    assert tree.lacks(("server.host", "server.dashboard")) == ["server.dashboard"]


def test_later_sections_override() -> None:
    assert merged({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}, "b": {"z": 4}}) == {
        "a": {"x": 3, "y": 2},
        "b": {"z": 4},
    }
