"""Makes README.md fit for PyPI, whose page has no files beside it; setup.cfg has all else.

Its relative links become absolute, under `url` in setup.cfg; without `url`, only their text stays.
"""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
# Code is matched first, so that what looks like a link in it stays. A link's text may be a picture.
_LINK = re.compile(
    r"```.*?```|`[^`\n]*`|(!?)\[((?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\(([^)\s]+)\)", re.DOTALL
)
_TAG = re.compile(r'<[a-z][^>]*?\b(src|srcset|href)="(?![a-z]+:|#)([^"]+)"[^>]*>')
_ABSOLUTE = re.compile(r"[a-z]+:|#")


def long_description(readme: str, url: str, version: str) -> str:
    """The README of this version; url: the repository's, or empty."""

    def absolute(target: str, kind: str) -> str:
        # The paths of GitHub, which GitLab redirects to its own.
        return f"{url}/{kind}/v{version}/{target}"

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if target is None:
            return match[0]
        text = _LINK.sub(link, text)
        if _ABSOLUTE.match(target):
            return f"{mark}[{text}]({target})"
        if not url:
            # A picture that cannot be shown leaves nothing behind.
            return "" if mark else text
        return f"{mark}[{text}]({absolute(target, 'raw' if mark else 'blob')})"

    def tag(match: re.Match[str]) -> str:
        name, target = match.groups()
        made = absolute(target, "blob" if name == "href" else "raw")
        return match[0].replace(f'"{target}"', f'"{made}"') if url else ""

    return _TAG.sub(tag, _LINK.sub(link, readme))


def project_urls(url: str) -> dict[str, str]:
    """What PyPI shows beside the description; url: the repository's, or empty."""
    if not url:
        return {}
    return {
        "Documentation": f"{url}/blob/HEAD/docs/README.md",
        "Changelog": f"{url}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }


def main() -> None:
    """Build what the command line of setuptools, or a build front end, asks for."""
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg", encoding="utf-8")
    metadata = configuration["metadata"]
    url = metadata.get("url", "").rstrip("/")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=long_description(readme, url, metadata["version"]),
        project_urls=project_urls(url),
    )


if __name__ == "__main__":
    main()
