"""The page about tokens: its deny list and its required claims."""

from __future__ import annotations

from energyws.auth.denied import Denied, parse
from energyws.control.config import load, yaml_tree
from tests.control.configs import KAFKA
from tests.docs.snippets import load_yaml, snippet
from tests.principals import principal


def test_deny_list() -> None:
    entries, bad = parse(snippet(test_deny_list).encode())
    assert (len(entries), bad) == (3, [])
    denied = Denied(entries)
    assert denied.covers(principal("tenant-7", issued=1798761599.0).token)
    assert not denied.covers(principal("tenant-7", issued=1798761600.0).token)
    assert denied.covers(principal("tenant-8", issuer="https://home.example/").token)
    assert not denied.covers(principal("tenant-8").token)


def test_required_claims() -> None:
    auth = load_yaml(snippet(test_required_claims))["auth"]
    settings = load.parse(KAFKA + yaml_tree.write({"auth": auth}), "c.yaml", {})
    assert settings.auth.required_claims["token_use"] == ("access",)
