"""Tokens that are refused where a shared secret signs, with the reason in log and metrics.

The client learns `UNAUTHORIZED`, or `TOKEN_EXPIRED`.
"""

from __future__ import annotations

import json
from typing import Final

from tests.auth.tokens import CLAIMS, NOW, SECRET, b64, forge, hs, signed, unsigned, with_header

_GOOD: Final = signed()
_HEAD, _BODY, _SIGNATURE = _GOOD.split(".")

TOKENS: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("", "missing"),
    "too long": ("x" * 8_193, "too_long"),
    # The form (RFC 7515 section 7.1).
    **{
        f"form {text!r}": (text, "malformed")
        for text in (
            *(".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d.e", " ", "null", "Bearer", "é.é.é"),
            *(f"{_HEAD}.{_BODY}", f".{_BODY}.{_SIGNATURE}"),
            *(f"{_HEAD}.{_BODY}.{_SIGNATURE}.", f"{_GOOD}.x", f"{_GOOD}=", f"{_GOOD}=="),
        )
    },
    "header is no JSON": (forge(b"{", CLAIMS, hs()), "malformed"),
    "header is a list": (forge([], CLAIMS, hs()), "malformed"),
    "header is null": (forge(None, CLAIMS, hs()), "malformed"),
    "header nested 5,000 deep": (forge(b"[" * 5_000, CLAIMS, hs()), "malformed"),
    "header is not UTF-8": (forge(b'{"alg":"HS256","x":"\xff"}', CLAIMS, hs()), "malformed"),
    # Algorithms (RFC 8725 section 3.1).
    **{
        f"alg {alg!r}": (forge({"alg": alg}, CLAIMS, unsigned), "algorithm")
        for alg in ("none", "None", "NONE", "nOnE")
    },
    **{
        f"alg {alg!r} signed with HS256": (with_header(alg=alg), "algorithm")
        for alg in ("RS256", "ES256", "PS256", "EdDSA", "HS384", "HS512", "hs256", "HS256 ", "")
    },
    # Signatures.
    "empty payload": (f"{_HEAD}..{_SIGNATURE}", "signature"),
    "empty signature": (f"{_HEAD}.{_BODY}.", "signature"),
    "cut signature": (_GOOD[:-4], "malformed"),
    "first bit of the signature": (
        f"{_HEAD}.{_BODY}.{'A' if _SIGNATURE[0] != 'A' else 'B'}{_SIGNATURE[1:]}",
        "signature",
    ),
    "other secret": (forge({"alg": "HS256"}, CLAIMS, hs(SECRET[:-1])), "signature"),
    "empty secret": (forge({"alg": "HS256"}, CLAIMS, hs("")), "signature"),
    "SHA-512 under HS256": (forge({"alg": "HS256"}, CLAIMS, hs(digest="sha512")), "signature"),
    "other claims": (
        f"{_HEAD}.{b64(json.dumps({**CLAIMS, 'sub': 'admin'}).encode())}.{_SIGNATURE}",
        "signature",
    ),
    "signature of another token": (
        f"{_HEAD}.{_BODY}.{signed(sub='canary-other').split('.')[2]}",
        "signature",
    ),
    # Claims (RFC 7519 section 4.1).
    **{
        f"sub {value!r}": (signed(sub=value), "claims")
        for value in (..., "", None, 1, True, [], ["canary-subject"], {})
    },
    **{
        f"exp {value!r}": (signed(exp=value), "claims")
        for value in (..., None, "", "2099", "1e9", True, [], {}, [NOW + 60])
    },
    **{f"exp {value}": (signed(exp=value), "expired") for value in (0, 1, NOW - 31, NOW - 3600)},
    **{
        f"{claim} {value!r}": (signed(**{claim: value}), "claims")
        for claim in ("nbf", "iat")
        for value in ("", "now", True, [], {})
    },
    **{
        f"{claim} an hour from now": (signed(**{claim: NOW + 3_600}), "not_yet_valid")
        for claim in ("nbf", "iat")
    },
    **{
        f"streams {value!r}": (signed(streams=value), "claims")
        for value in (1, True, {}, [1], [None], [["energy"]])
    },
}
