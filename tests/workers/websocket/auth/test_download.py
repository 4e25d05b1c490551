"""What may be logged of a JWKS URL; test_keys.py has what an endpoint may do."""

from __future__ import annotations

import pytest

from workers.websocket.auth.download import plain


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/b?c=canary", "https://a.example/b"),
        ("https://me:canary@a.example:1/b#canary", "https://a.example:1/b"),
    ],
)
def test_url_in_the_log_has_no_secrets(url: str, shown: str) -> None:
    assert plain(url) == shown
