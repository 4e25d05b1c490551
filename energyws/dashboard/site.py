"""The page's files as HTTP responses (RFC 9110 section 13, RFC 9111, RFC 8246). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from energyws.protocol.http.response import Response, matches

INDEX: Final = "index.html"
# In the index's links to other files: replaced by the version of all files.
VERSION: Final = b"VERSION"
ASSETS: Final = "/assets/"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Content Security Policy Level 3: files of this origin and nothing else. Neither nonces nor hashes:
# the page could not be cached, or each edit would break it.
_SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REVALIDATED: Final = "no-cache"
_FOREVER: Final = "public, max-age=31536000, immutable"


class Site:
    """Files by name; `index.html` is served at `/`, the others below /assets/<version>/."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        digest = hashlib.sha256()
        for name, content in sorted(files.items()):
            digest.update(name.encode() + b"\0" + content + b"\0")
        self.version = digest.hexdigest()[:16]
        self._files = dict(files)
        self._files[INDEX] = files[INDEX].replace(VERSION, self.version.encode())
        # The version covers every file, so it is the tag of each.
        self._tag = f'"{self.version}"'

    def answer(self, path: str, if_none_match: str | None) -> Response | None:
        """The response to a request for this path; None where there is no such file."""
        version, _, name = path.removeprefix(ASSETS).partition("/")
        if path == "/":
            name, caching = INDEX, _REVALIDATED
        elif not path.startswith(ASSETS) or name == INDEX:
            return None
        else:
            # During a rolling upgrade, index and file may come from different workers. Ours is more
            # use than none; but nobody may keep it under the other version's name.
            caching = _FOREVER if version == self.version else _REVALIDATED
        content = self._files.get(name)
        if content is None:
            return None
        headers = {"ETag": self._tag, "Cache-Control": caching, **_SECURITY}
        if if_none_match is not None and matches(if_none_match, self._tag):
            return Response(304, None, headers)
        headers["Content-Type"] = _TYPES[PurePosixPath(name).suffix]
        return Response(200, content, headers)
