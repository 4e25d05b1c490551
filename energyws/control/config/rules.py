"""Rules that a type cannot express: keys that need or exclude others, and values to warn of.

`cross_check` works on the raw tree, so that it finds problems even while other keys are wrong;
`warnings` works on valid settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final
from urllib.parse import urlsplit

from energyws.control.config.files import HOW_TO_MAKE, WEAK, is_weak, secrets
from energyws.control.config.origins import NULL, NoOrigin, normalised
from energyws.control.config.problems import REDACTED, KeyPath, Problems, dotted, is_secret, shown
from energyws.control.config.schema import is_true, section
from energyws.control.config.stream_rules import check_streams, stream_warnings
from energyws.control.loopback import is_loopback
from energyws.protocol.http.client_address import network
from energyws.settings import Admin, Server, Settings

# A name or an address, without scheme, port or path.
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
# Of 128 bits: more than anybody can try.
_TOKEN_BYTES: Final = 16
_OWNED_OPTIONS: Final = {
    "bootstrap.servers": "use kafka.brokers",
    "metadata.broker.list": "use kafka.brokers",
    "group.id": "use kafka.group_id",
    "auto.offset.reset": "use kafka.auto_offset_reset",
    "enable.auto.commit": "use kafka.commit_interval_seconds",
    "auto.commit.enable": "use kafka.commit_interval_seconds",
    "enable.auto.offset.store": "leave it out",
}


def cross_check(tree: dict[str, Any], problems: Problems) -> None:
    """Add the problems between keys, unless one found already explains them."""
    _check_issuers(section(tree, "auth"), problems)
    _check_auth(section(tree, "auth"), problems)
    check_streams(section(tree, "kafka"), section(tree, "streams"), problems)
    _check_registry(section(tree, "schema_registry"), section(tree, "streams"), problems)
    _check_options(section(section(tree, "kafka"), "options"), problems)
    _check_ports(section(tree, "server"), section(tree, "admin"), problems)
    _check_origins(section(tree, "server").get("allowed_origins"), problems)
    _check_hosts(section(tree, "admin").get("hosts"), problems)
    _check_proxies(section(tree, "server"), problems)


def warnings(settings: Settings) -> list[str]:
    """A line for each setting that is valid but probably not intended."""
    return list(_warnings(settings))


def _check_auth(auth: dict[str, Any], problems: Problems) -> None:
    def has(key: str) -> bool:
        return auth.get(key) not in (None, []) or problems.explain_absence(("auth", key))

    if not any(map(has, ("jwt_secret", "jwt_secret_file", "jwks_url", "issuer", "issuers"))):
        text = "no authentication configured: set jwt_secret, or jwks_url and issuer, or issuers"
        problems.add(("auth",), text)
    if has("jwks_url") and not has("issuer"):
        problems.add(("auth", "jwks_url"), "needs auth.issuer too: the issuer of these keys")
    if has("issuer") and not has("jwks_url") and not has("issuers"):
        problems.add(("auth", "issuer"), "needs auth.jwks_url too: the URL of the issuer's keys")
    if is_true(auth.get("jwt_secret_beside_issuers")) and not (
        has("jwt_secret") or has("jwt_secret_file")
    ):
        problems.add(("auth", "jwt_secret_beside_issuers"), "needs auth.jwt_secret: set it too")
    for key in ("jwt_secret", "jwt_secret_previous"):
        _check_redacted(("auth", key), auth.get(key), problems)
    for name, values in section(auth, "required_claims").items():
        if values == []:
            problems.add(("auth", "required_claims", name), "has no value: list at least one")


def _check_issuers(auth: dict[str, Any], problems: Problems) -> None:
    first_of: dict[str, tuple[KeyPath, object]] = {}
    for path, issuer, url in _issuers(auth):
        url_path, issuer_path = (*path, "jwks_url"), (*path, "issuer")
        if isinstance(url, str) and not problems.wrong(url_path) and not _is_http(url):
            found = problems.found(url_path, url)
            problems.add(url_path, f"found {found}: use an http or https URL without a user name")
        elif _is_foreign_http(url) and not is_true(auth.get("allow_http_jwks")):
            found = problems.found(url_path, url)
            text = (
                f"found {found}: use https://, since anyone on the way can replace keys that come "
                "over http://; or set auth.allow_http_jwks: true"
            )
            problems.add(url_path, text)
        if not isinstance(issuer, str) or problems.wrong(issuer_path):
            continue
        if issuer == auth.get("jwt_secret_issuer"):
            text = "same as auth.jwt_secret_issuer: its tokens are checked with its keys only"
            problems.add(issuer_path, text)
        first, first_url = first_of.setdefault(issuer, (path, url))
        # The shorthand may repeat one of the list, as it does in the output of check-config.
        if first != path and not (first == ("auth",) and first_url == url):
            problems.add(issuer_path, f"same as {dotted(first)}.issuer: list each issuer once")


def _issuers(auth: dict[str, Any]) -> Iterator[tuple[KeyPath, object, object]]:
    yield ("auth",), auth.get("issuer"), auth.get("jwks_url")
    listed = auth.get("issuers")
    for index, each in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(each, dict):
            yield ("auth", "issuers", index), each.get("issuer"), each.get("jwks_url")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        )
    except ValueError:
        return False


def _is_foreign_http(url: object) -> bool:
    """Whether it is an http URL of another machine."""
    if not isinstance(url, str) or not _is_http(url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _check_registry(registry: dict[str, Any], streams: dict[str, Any], problems: Problems) -> None:
    url, path = registry.get("url"), ("schema_registry", "url")
    if url is None and not problems.explain_absence(path):
        for name, stream in streams.items():
            if isinstance(stream, dict) and stream.get("format") in ("avro", "protobuf"):
                text = "needs schema_registry.url too: the registry that has its schemas"
                problems.add(("streams", name, "format"), text)
    if isinstance(url, str) and not problems.wrong(path):
        if not _is_http(url):
            found = problems.found(path, url)
            problems.add(path, f"found {found}: use an http or https URL without a user name")
        elif {"?", "#"} & {*url}:
            problems.add(path, "has a query or fragment, but the API's paths follow it: end before")
    if registry.get("username") is None:
        for key in ("password", "password_file"):
            if registry.get(key) is not None:
                text = "needs schema_registry.username too: the user whose password it is"
                problems.add(("schema_registry", key), text)
    _check_redacted(("schema_registry", "password"), registry.get("password"), problems)


def _check_options(options: dict[str, Any], problems: Problems) -> None:
    for name, value in options.items():
        _check_redacted(("kafka", "options", name), value, problems)
        if advice := _OWNED_OPTIONS.get(name):
            problems.add(("kafka", "options", name), f"energyws sets this option itself: {advice}")


def _check_redacted(path: KeyPath, value: object, problems: Problems) -> None:
    # Otherwise *** would be the secret of a file made from the output of `check-config`.
    if value == REDACTED and is_secret(path):
        problems.add(path, f"{REDACTED} is a placeholder: write the secret instead")


def _check_ports(server: dict[str, Any], admin: dict[str, Any], problems: Problems) -> None:
    listening: list[tuple[KeyPath, str, object]] = [
        (("server", "port"), str(server.get("host", Server().host)), server.get("port")),
        (("admin", "port"), str(admin.get("host", Admin().host)), admin.get("port")),
        (
            ("admin", "metrics_port"),
            str(admin.get("metrics_host", Admin().metrics_host)),
            admin.get("metrics_port"),
        ),
    ]
    defaults: dict[KeyPath, int] = {
        ("server", "port"): Server().port,
        ("admin", "port"): Admin().port,
    }
    if admin.get("socket") is not None:
        del listening[1]
    for (one, host, port), (other, other_host, other_port) in combinations(listening, 2):
        ports = {_number(port, defaults.get(one)), _number(other_port, defaults.get(other))}
        if len(ports) == 1 and ports.isdisjoint({0, None}) and _overlap(host, other_host):
            path = other if problems.has(other) else one
            text = f"{dotted(one)} and {dotted(other)} are both {ports.pop()} on the same host"
            problems.add(path, f"{text}: change one")


def _number(value: object, default: int | None) -> int | None:
    try:
        return default if value is None else int(str(value))
    except ValueError:
        return None


def _check_hosts(listed: object, problems: Problems) -> None:
    for index, text in enumerate(listed if isinstance(listed, list) else []):
        path = ("admin", "hosts", index)
        if isinstance(text, str) and not problems.wrong(path) and not _HOST.fullmatch(text):
            found = problems.found(path, text)
            problems.add(path, f"found {found}: use a name alone, as in node1.example")


def _check_origins(listed: object, problems: Problems) -> None:
    for index, text in enumerate(listed if isinstance(listed, list) else []):
        path = ("server", "allowed_origins", index)
        if isinstance(text, str) and not problems.wrong(path):
            try:
                normalised(text)
            except NoOrigin as error:
                problems.add(path, f"found {problems.found(path, text)}: {error}")


def _check_proxies(server: dict[str, Any], problems: Problems) -> None:
    listed, path = server.get("trusted_proxies"), ("server", "trusted_proxies")
    for index, text in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(text, str) and not problems.wrong((*path, index)):
            try:
                network(text)
            except ValueError:
                found = problems.found((*path, index), text)
                advice = "use an address, or a network such as 10.0.0.0/8"
                problems.add((*path, index), f"found {found}: {advice}")
    mode = server.get("proxy_protocol")
    if mode in ("optional", "required") and not listed and not problems.explain_absence(path):
        text = "needs server.trusted_proxies too: the addresses of the proxies that send the header"
        problems.add(("server", "proxy_protocol"), text)


def _overlap(one: str, other: str) -> bool:
    names = {one, other}
    # A socket bound to :: accepts IPv4 too (IPV6_V6ONLY is off by default on Linux).
    if len(names) == 1 or "::" in names:
        return True
    if "0.0.0.0" in names:
        return not any(":" in name for name in names)
    return names in ({"localhost", "127.0.0.1"}, {"localhost", "::1"})


def _warnings(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    if auth.issuers and not auth.jwt_secret_beside_issuers:
        # No warning of an unused jwt_secret: energy-ws required a placeholder there.
        for key in ("jwt_secret_previous", "jwt_secret_issuer"):
            if getattr(auth, key) is not None:
                yield f"auth.{key}: not used beside auth.issuers; remove it"
    else:
        for key, secret in secrets(auth).items():
            if secret is not None:
                yield from _secret_warnings(f"auth.{key}", secret)
        if auth.jwt_secret is not None and auth.jwt_secret == auth.jwt_secret_previous:
            yield (
                "auth.jwt_secret_previous: the same as auth.jwt_secret, so it adds nothing; "
                "remove it"
            )
    if auth.scope_prefix is not None and auth.scope_prefix != auth.scope_prefix.strip():
        yield "auth.scope_prefix: begins or ends with white space, which no scope does"
    if NULL in settings.server.allowed_origins:
        yield (
            "server.allowed_origins: null is what browsers send for files and sandboxed frames, "
            "also for those of other sites"
        )
    if settings.server.forwarded_header != Server().forwarded_header and not (
        settings.server.trusted_proxies
    ):
        yield "server.forwarded_header: not used without server.trusted_proxies: set them too"
    if any(network(each).prefixlen == 0 for each in settings.server.trusted_proxies):
        yield (
            "server.trusted_proxies: trusts every address, so any client can claim another one; "
            "name only your proxies"
        )
    if auth.issuer is not None and auth.jwks_url is None:
        yield "auth.issuer: not used without auth.jwks_url; remove it"
    for each in auth.issuers:
        if _is_foreign_http(each.jwks_url):
            yield (
                f"auth.issuers: the keys of {shown(each.issuer)} come over http://, where anyone "
                "on the way can replace them: use https://"
            )
    yield from stream_warnings(settings.streams)
    registry = settings.schema_registry
    if registry.username is not None and _is_foreign_http(registry.url):
        yield (
            "schema_registry.url: the password goes over http://, where anyone on the way can read "
            "it: use https://"
        )
    admin = settings.admin
    if admin.metrics_port is None and admin.metrics_host != Admin().metrics_host:
        yield "admin.metrics_host: not used without admin.metrics_port: set it too"
    token = admin.token
    if token is not None and (token != token.strip() or not token.isprintable()):
        yield "admin.token: begins or ends with white space, or has control characters"
    if token is not None and len(token.encode()) < _TOKEN_BYTES:
        yield (
            f"admin.token: shorter than {_TOKEN_BYTES} bytes, so it can be guessed: "
            "make one with `openssl rand -base64 32`"
        )


def _secret_warnings(key: str, secret: str) -> Iterator[str]:
    if is_weak(secret):
        yield f"{key}: {WEAK}: {HOW_TO_MAKE}"
    if secret != secret.strip():
        yield f"{key}: begins or ends with white space, which is part of the secret"
    if secret.startswith("\ufeff"):
        yield f"{key}: begins with a byte order mark, which is part of the secret"
