from __future__ import annotations

from energyws.control.config import reference
from energyws.control.config.problems import dotted
from energyws.control.config.schema import known_keys
from energyws.control.reload.plan import effect
from tests.test_docs import ROOT, table


def test_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference.page(effect), (
        "run: energyws config-schema --markdown > docs/configuration.md"
    )


def test_page_has_every_key() -> None:
    page = reference.page(lambda key: key)
    rows = [row for part in page.split("\n## ")[1:] for row in table("## x\n" + part, "## x")]
    keys = [key.strip("`") for key, *_ in rows]
    assert {*map(dotted, known_keys())} - {*keys} == {
        *("kafka", "server", "limits", "auth", "history", "bus", "supervision", "admin", "log"),
        "schema_registry",
    }
    assert {"streams.<name>.topic", "auth.issuers[].jwks_url"} < {*keys}
    for row in rows:
        assert all(row)
    assert ["`server.tls.key`", "required", "server.tls"] in [[k, d, e] for k, _, d, _, e in rows]
