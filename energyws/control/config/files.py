"""The files that settings name: secrets, deny list, certificates."""

from __future__ import annotations

import codecs
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from energyws.auth.denied import MAX_DENIED_BYTES, parse
from energyws.control.config.problems import shown
from energyws.errors import ConfigError
from energyws.settings import Auth, Settings

_SECRETS: Final = ("jwt_secret", "jwt_secret_previous")
_SECRET_BYTES: Final = 32
WEAK: Final = f"shorter than {_SECRET_BYTES} bytes, so it can be guessed (RFC 7518, section 3.2)"
HOW_TO_MAKE: Final = "make one with `openssl rand -base64 32`"
_MOST_SHOWN: Final = 10
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotText(ValueError):
    """A file that is not UTF-8; the message has the reason."""


def secrets(auth: Auth) -> dict[str, str | None]:
    """The secrets, by key."""
    return {key: getattr(auth, key) for key in _SECRETS}


def secret_files(settings: Settings) -> dict[str, str]:
    """The paths of the files with secrets, by section and key of the value that they hold."""
    paths = {f"auth.{key}": getattr(settings.auth, f"{key}_file") for key in _SECRETS}
    paths["schema_registry.password"] = settings.schema_registry.password_file
    return {key: path for key, path in paths.items() if path is not None}


def with_secret_files(settings: Settings) -> Settings:
    """The settings with the secrets that are in the files now; raises ConfigError.

    Also for a secret that can be guessed, from wherever it is. The file of the previous secret may
    be empty: then there is no previous secret.
    """
    found: dict[str, str | None] = {}
    problems = []
    for key, path in secret_files(settings).items():
        try:
            found[key] = text_of(Path(path).read_bytes()) or None
        except (OSError, NotText) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems.append(f"{key}_file: cannot read {shown(path)}: {reason}")
        else:
            if found[key] is None and key != "auth.jwt_secret_previous":
                problems.append(f"{key}_file: {shown(path)} is empty")
    settings = _with_secrets(settings, found)
    if problems := problems or _weak_secrets(settings.auth):
        raise ConfigError(problems, "secret")
    return settings


def is_weak(secret: str) -> bool:
    """RFC 7518 section 3.2: a key for HS256 must have the size of the hash output, or more."""
    return len(secret.encode("utf-8", "surrogateescape")) < _SECRET_BYTES


def without_secret_files(settings: Settings) -> Settings:
    """The settings without the secrets that come from files."""
    return _with_secrets(settings, dict.fromkeys(secret_files(settings)))


def _with_secrets(settings: Settings, found: Mapping[str, str | None]) -> Settings:
    """The settings with these values, by section and key."""
    for dotted, value in found.items():
        section, _, key = dotted.partition(".")
        changed: dict[str, Any] = {key: value}
        changed = {section: replace(getattr(settings, section), **changed)}
        settings = replace(settings, **changed)
    return settings


def text_of(data: bytes) -> str:
    """The text in a file, without the line end that editors and `echo` put after it.

    A byte order mark is a signature of the encoding, no part of the text (Unicode 23.8). Raises
    NotText.
    """
    if data.startswith(_UTF16) or b"\0" in data:
        raise NotText("it is UTF-16 or binary: save it as UTF-8")
    try:
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise NotText("it is not UTF-8") from None


def check_files(settings: Settings) -> None:
    """Raise ConfigError unless certificates, key and deny list can be used."""
    _check_denied(settings.auth.denied_file)
    _check_authorities(settings.schema_registry.ca)
    tls = settings.server.tls
    if tls is None:
        return
    problems = []
    for key, path in (("cert", tls.cert), ("key", tls.key)):
        try:
            fault = pem_fault(Path(path).read_bytes())
        except OSError as error:
            problems.append(f"server.tls.{key}: cannot read {shown(path)}: {error.strerror}")
        else:
            if fault is not None:
                problems.append(f"server.tls.{key}: {shown(path)} {fault}")
    if not problems:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except (ssl.SSLError, ValueError):
            problems.append(
                f"server.tls: {shown(tls.cert)} and {shown(tls.key)} do not go together: use a PEM "
                "certificate chain, and its private key in PEM without a passphrase"
            )
    if problems:
        raise ConfigError(problems, "certificate")


def _weak_secrets(auth: Auth) -> list[str]:
    unused = auth.issuers and not auth.jwt_secret_beside_issuers
    if auth.allow_weak_secret or unused:
        return []
    return [
        f"auth.{key}: {WEAK}: {HOW_TO_MAKE}, or set auth.allow_weak_secret: true"
        for key, secret in secrets(auth).items()
        if secret and is_weak(secret)
    ]


def _check_denied(path: str | None) -> None:
    """Whatever its lines are: one that cannot be used must not keep the others from counting."""
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            large = len(file.read(MAX_DENIED_BYTES + 1)) > MAX_DENIED_BYTES
    except OSError as error:
        problem = f"auth.denied_file: cannot read {shown(path)}: {error.strerror}"
        raise ConfigError([problem], "deny_list") from None
    if large:
        problem = f"{shown(path)} has more than {MAX_DENIED_BYTES} bytes: remove expired entries"
        raise ConfigError([f"auth.denied_file: {problem}"], "deny_list")


def _check_authorities(path: str | None) -> None:
    if path is None:
        return
    fault = None
    try:
        fault = pem_fault(Path(path).read_bytes())
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        fault = fault or "has no certificate in PEM"
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    if fault is not None:
        raise ConfigError([f"schema_registry.ca: {shown(path)} {fault}"])


def bad_denied_lines(settings: Settings) -> list[str]:
    """A line for each of the first lines of the deny list that cannot be used. Raises OSError."""
    path = settings.auth.denied_file
    if path is None:
        return []
    _, bad = parse(Path(path).read_bytes())
    return [
        f"auth.denied_file: {shown(path)}:{each.number}: {each.reason}"
        for each in bad[:_MOST_SHOWN]
    ]


def pem_fault(data: bytes) -> str | None:
    """The fault that keeps OpenSSL from reading all of a PEM file; None if none is found."""
    if data.startswith(_UTF16) or b"\0" in data:
        return "is UTF-16 or binary: PEM is plain text"
    if (at := data.find(codecs.BOM_UTF8)) >= 0:
        # OpenSSL finds ----- at the beginning of a line only, and skips other lines silently.
        line = data.count(b"\n", 0, at) + 1
        return f"has a byte order mark on line {line}, which hides the block after it: remove it"
    return None
