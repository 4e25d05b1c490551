"""The responses that carry the page's files."""

from __future__ import annotations

import pytest

from energyws.dashboard.site import Site

FILES = {
    "index.html": b'<script src="assets/VERSION/app.js"></script>',
    "app.js": b"import './energyws.js'",
    "icon.svg": b"<svg/>",
}


def test_index_links_to_the_version_of_the_files() -> None:
    site = Site(FILES)
    index = site.answer("/", None)
    assert index is not None
    assert index.body == f'<script src="assets/{site.version}/app.js"></script>'.encode()
    assert index.headers["Content-Type"] == "text/html; charset=utf-8"
    assert index.headers["Cache-Control"] == "no-cache"


def test_another_content_is_another_version() -> None:
    assert Site(FILES).version == Site(dict(reversed(FILES.items()))).version
    assert Site(FILES).version != Site({**FILES, "app.js": b""}).version


def test_files_of_this_version_may_be_kept_for_ever() -> None:
    site = Site(FILES)
    script = site.answer(f"/assets/{site.version}/app.js", None)
    assert script is not None
    assert (script.status, script.body) == (200, FILES["app.js"])
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert script.headers["Cache-Control"].endswith("immutable")


def test_files_of_another_version_may_not_be_kept() -> None:
    script = Site(FILES).answer("/assets/0123456789abcdef/app.js", None)
    assert script is not None
    assert (script.body, script.headers["Cache-Control"]) == (FILES["app.js"], "no-cache")


@pytest.mark.parametrize(
    "path", ["/app.js", "/assets/", "/assets/app.js", "/assets/1/", "/assets/1/index.html", "*", ""]
)
def test_other_paths_are_not_its_own(path: str) -> None:
    assert Site(FILES).answer(path, None) is None


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_known_file_is_not_sent_again(form: str) -> None:
    site = Site(FILES)
    for path in ("/", f"/assets/{site.version}/icon.svg"):
        answer = site.answer(path, form.format(f'"{site.version}"'))
        assert answer is not None
        assert (answer.status, answer.body) == (304, None)
        assert answer.headers["ETag"] == f'"{site.version}"'
    changed = site.answer("/", '"other"')
    assert changed is not None
    assert changed.status == 200


def test_page_may_load_from_its_own_origin_only() -> None:
    index = Site(FILES).answer("/", None)
    assert index is not None
    policy = index.headers["Content-Security-Policy"]
    sources = [word for rule in policy.split("; ") for word in rule.split()[1:]]
    assert policy.startswith("default-src 'none'; ")
    assert set(sources) == {"'self'", "'none'"}
