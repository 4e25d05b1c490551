"""The documentation agrees with the code."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from energyws.auth.claims import TokenClaim, TokenReason, streams
from energyws.control.admin.metrics import DEFINITIONS
from energyws.control.children.status import Ending, PartitionStatus
from energyws.control.host.facts import Host
from energyws.control.host.shortages import shortages
from energyws.control.policy.readiness import REASONS
from energyws.control.reload.plan import TABLE, Takes
from energyws.control.status.keys import KEYS
from energyws.errors import ExitCode, FaultKind
from energyws.protocol.messages import Unrecovered
from energyws.settings import MIB, Auth, Kafka, Limits, Settings
from tests.control.documents import Child, document
from tests.docs.pages import links

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SIZING = (ROOT / "docs" / "sizing.md").read_text()
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
TOKENS = (ROOT / "docs" / "tokens.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
METRICS = (ROOT / "docs" / "metrics.md").read_text()
INDEX = ROOT / "docs" / "README.md"
MEASURED = ("performance", "reliability")
MARKED = r"<!-- ([a-z_ ]+): begin -->\n(.*?)<!-- \1: end -->"
LINKED = [
    *sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]),
    *(ROOT / directory / "README.md" for directory in ("bench", "config")),
]
METRICS_TABLES = (
    "## Service",
    "## Clients",
    "## Delivery",
    "## Consumer and memory",
    "## Processes",
)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    section = text.split(f"{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in lines[0].split("\n")
    ]
    return [row for row in rows[2:] if len(row) > 1]


@pytest.mark.parametrize("reason", list(Unrecovered), ids=lambda reason: reason.value)
def test_reasons_are_documented(reason: Unrecovered) -> None:
    assert f"| `{reason.value}` |" in PROTOCOL


def test_exit_codes_are_documented() -> None:
    rows = table((ROOT / "docs" / "architecture.md").read_text(), "## Exit codes")
    assert [int(code) for code, _ in rows] == [code.value for code in ExitCode]


def test_reload_table_has_the_effect_of_every_key() -> None:
    found: dict[str, Takes] = {}
    for keys, effect in table(OPERATIONS, "## Rolling restart and reload"):
        matching = [
            what
            for what, words in (
                (Takes.NOTHING, "at once"),
                (Takes.ALL, "with a new consumer and new workers"),
                (Takes.CONSUMER, "with a new consumer"),
                (Takes.WORKERS, "with new workers"),
                (Takes.RESTART, "after a restart"),
            )
            if effect.startswith(words)
        ]
        found |= dict.fromkeys(re.findall(r"`([a-z_.]+)`", keys), matching[0])
    # The last row but one, for all other keys of the section.
    assert found.pop("server") is Takes.WORKERS
    assert found == TABLE


def test_signals_are_documented() -> None:
    rows = table(OPERATIONS, "## Signals")
    assert {name for names, _ in rows for name in names.split(", ")} == {
        *("TERM", "INT", "QUIT", "HUP", "USR2", "TTIN", "TTOU")
    }


def test_status_has_exactly_the_documented_fields() -> None:
    def names(value: object, path: str = "") -> set[str]:
        match value:
            case dict() if path not in ("processes[].board", "processes[].histograms"):
                return {
                    name
                    for key, inner in value.items()
                    for name in names(inner, f"{path}.{key}".lstrip("."))
                }
            case list() if path in ("processes", "partitions"):
                return {name for each in value for name in names(each, f"{path}[]")}
        return {path}

    partitions = [PartitionStatus("energy", 0, 1, 1, 1)]
    status = document(1.0, [Child("consumer"), Child("worker-0")], partitions=partitions)
    rows = table(OPERATIONS.split("More fields may come", 1)[1], "")
    documented = [name for cells in rows for name in re.findall(r"`([^`]+)`", cells[0])]
    assert set(documented) == names(status)
    histograms = next(cells[1] for cells in rows if "histograms" in cells[0])
    for name, parts in status["processes"][1]["histograms"].items():
        assert {f"`{each}`" for each in (name, *parts)} <= set(re.findall("`[a-z_]+`", histograms))


def test_keys_of_the_live_view_are_documented() -> None:
    rows = table(OPERATIONS, "## Looking")
    assert {key for keys, _ in rows for key in re.findall("`(.)`", keys)} == set(KEYS)


def test_pictures_have_no_external_references() -> None:
    pictures = list((ROOT / "docs").rglob("*.svg"))
    assert pictures
    for picture in pictures:
        text = picture.read_text().replace('"http://www.w3.org/2000/svg"', "")
        # Shown, not fetched.
        text = re.sub(r"(<text [^>]*>)http://127\.0\.0\.1[^<]*</text>", r"\1</text>", text)
        assert re.findall(r"https?:|@import|@font-face|url\((?!#)|href=\"(?!#)", text) == []


def exposed() -> dict[str, set[str]]:
    """The labels of each metric, by the names that a scrape has."""
    found = {}
    for each in DEFINITIONS:
        endings = {"counter": ("_total",), "gauge": ("",)}.get(each.kind, ("", "_bucket", "_count"))
        found |= {each.name + ending: set(each.labels) for ending in endings}
    return found


def test_metrics_are_documented() -> None:
    documented = {
        name.strip("`"): (kind, tuple(labels.split(", ")) if labels else ())
        for heading in METRICS_TABLES
        for name, kind, _, labels, _, _ in table(METRICS, heading)
    }
    assert documented == {
        each.name + ("_total" if each.kind == "counter" else ""): (each.kind, each.labels)
        for each in DEFINITIONS
    }


def test_labels_of_metrics_are_documented() -> None:
    rows = table(METRICS, "## Labels")
    named = {label for labels, _ in rows for label in re.findall("`([a-z]+)`", labels)}
    assert named == {"le", *(label for each in DEFINITIONS for label in each.labels)}
    reasons = next(meaning for labels, meaning in rows if labels == "`reason`")
    assert {*re.findall("`([a-z_]+)`", reasons)} == {*get_args(Ending), *get_args(FaultKind)}


def test_reasons_of_refused_tokens_are_documented() -> None:
    rows = table(METRICS, "## Why a token is refused")
    assert [reason.strip("`") for reason, *_ in rows] == [*get_args(TokenReason)]
    claims = next(meaning for labels, meaning in table(METRICS, "## Labels") if labels == "`claim`")
    assert {*get_args(TokenClaim)} < {*re.findall("`([a-z]+)`", claims)}


def test_tokens_allow_the_documented_streams() -> None:
    allowed = {"all streams": None, "no stream": frozenset[str](), "energy": frozenset({"energy"})}
    rows = table(TOKENS, "## Streams by token")
    assert {streams_named for *_, streams_named, _ in rows} == allowed.keys()
    for configured, token, streams_named, _ in rows:
        settings = Auth(**dict(re.findall(r'`auth\.([a-z_]+): "(.+)"`', configured)))
        assert streams(json.loads(token.strip("`")), settings) == allowed[streams_named]


def test_metrics_of_the_operators_pages_exist() -> None:
    known = exposed()
    pages = OPERATIONS + SIZING + RUNBOOK
    named = re.findall(r"\b(energyws_[a-z_]+)(?:\{([a-z]+)=)?", pages)
    assert len(named) > 20
    assert [name for name, _ in named if name not in known] == []
    assert [name for name, label in named if label and label not in known[name]] == []


def keys_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a section and of its subsections."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        yield prefix + each.name
        for inner in (hints[each.name], *get_args(hints[each.name])):
            if is_dataclass(inner):
                yield from keys_of(inner, f"{prefix}{each.name}.")


@pytest.mark.parametrize(
    ("page", "least"),
    [("operations", 20), ("sizing", 5), ("runbook", 20), ("tokens", 10), ("security", 10)],
)
def test_configuration_keys_of_the_pages_exist(page: str, least: int) -> None:
    known = set(keys_of(Settings))
    sections = "|".join(each.name for each in fields(Settings))
    text = (ROOT / "docs" / f"{page}.md").read_text()
    named = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)", text))
    assert len(named) > least
    assert sorted(named - known) == []


def test_attacks_have_tests_that_exist() -> None:
    section = SECURITY.split("## Attacks and answers\n")[1].split("\n## ")[0]
    kinds = re.findall(r"^### .*", section, re.MULTILINE)
    assert kinds
    for kind in kinds:
        for attack, answer, tests in table(section, kind):
            assert answer
            named = re.findall(r"`([^`]+)::([^`]+)`", tests)
            assert named, attack
            for file, test in named:
                code = (ROOT / "tests" / file).read_text()
                assert re.search(rf"^(async )?def {test}\(", code, re.MULTILINE), test


def test_limits_are_documented_with_their_defaults() -> None:
    rows = table((ROOT / "docs" / "security.md").read_text(), "## Limits")
    found = {
        key: default
        for keys, default, _ in rows
        for key in re.findall(r"`limits\.([a-z_]+)`", keys)
    }
    words = {None: "not set", 32 * MIB: "32 MiB", 100: "100"}
    expected = {each.name: words[each.default] for each in fields(Limits)}
    assert found == expected | {"pending_connections": "`server.max_connections`"}


def test_every_shortage_is_documented() -> None:
    poor = Host(
        **dict.fromkeys(
            ("descriptors", "somaxconn", "syn_backlog", "conntrack_max", "wmem_max"), 1
        ),
        syncookies=0,
        tcp_mem=(1, 1, 1),
        tcp_rmem=(1, 1, 1),
        tcp_wmem=(1, 1, 1),
        memory_bytes=1,
    )
    rows = table(SIZING, "## Limits of machine and container")
    found = shortages(Settings(kafka=Kafka(brokers="b")), 2, poor)
    assert {f"`{shortage.event}`" for shortage in found} == {warning for _, warning, _ in rows}


def test_every_reason_not_to_be_ready_is_in_the_runbook() -> None:
    rows = table(RUNBOOK, "## Not ready")
    assert {name for names, *_ in rows for name in re.findall(r"`([^`]+)`", names)} == {*REASONS}


def test_index_has_every_page() -> None:
    found = {
        (ROOT / "docs" / link.partition("#")[0]).resolve() for link in links(INDEX.read_text())
    }
    assert {*(ROOT / "docs").rglob("*.md")} - found == {INDEX}


def test_numbers_of_the_readme_are_measured() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in MEASURED)
    blocks = [block for _, block in re.findall(MARKED, pages, re.DOTALL)]
    rows = table(readme, "## Three numbers")
    assert len(rows) == 3
    for result, command in rows:
        (block,) = [each for each in blocks if f"    {command.split('`')[1]}\n" in each]
        numbers = re.findall(r"(?<!\w)\d+(?:[,.]\d+)*", result)
        assert [each for each in numbers if not re.search(rf"\b{re.escape(each)}\b", block)] == []
    ratios = re.findall(r"`?(\w+)`? (?:needs )?([\d.]+) times", table(readme, "## Why")[-1][-1])
    assert len(ratios) == 2
    for server, ratio in ratios:
        row = rf"^\| {server.lower()} \| 40,000 \|.*\| {re.escape(ratio)} \|"
        assert re.search(row, pages, re.MULTILINE)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_have_a_target(page: Path) -> None:
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, target


def test_settings_of_proxies_are_those_of_the_files() -> None:
    page = (ROOT / "docs" / "how-to" / "proxies.md").read_text()
    rows = table(page, "# Behind nginx, HAProxy, Traefik or Cloudflare")
    for column, file in ((1, "nginx.conf"), (2, "haproxy.cfg")):
        named = [re.findall(r"`(\w+ [\w ]*[\d.]+s?)`", row[column]) for row in rows]
        settings = [setting for each in named for setting in each]
        text = (ROOT / "config" / "proxies" / file).read_text()
        assert settings
        assert [each for each in settings if each not in text] == []


def test_changelog_begins_with_the_version_of_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] in (setup["metadata"]["version"], "Unreleased")


def test_pyproject_configures_no_tool() -> None:
    # A tool's section there would silently override setup.cfg.
    assert list(tomllib.loads((ROOT / "pyproject.toml").read_text())) == ["build-system"]
