"""`energyws tail`: readings to standard output, a line for everything else to standard error.

A permanent failure, such as an unknown host, ends it before the first connection only. After that
the service has changed, and may change back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import re
import ssl
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

import orjson

from energyws.client import Client, Gap, Reading, Refused, Removed, State
from energyws.client.failure import Failure, Kind, address, without_secrets
from energyws.client.position import BadPosition
from energyws.errors import EnergywsError, ExitCode

SILENCE_SECONDS: Final = 5.0
PROBE_SECONDS: Final = 3.0
PATH: Final = "/ws/energy"
_PERMANENT: Final = frozenset[Kind]({"host", "tls", "certificate", "websocket"})
# Temporary, as are 500 and above (RFC 9110 section 15.5.9, RFC 6585 section 4).
_TEMPORARY: Final = frozenset({408, 425, 429})


class BadArgument(EnergywsError):
    """An argument that cannot be used."""


class NoReadings(EnergywsError):
    """The URL does not lead to an energyws service, or the service refuses this client."""


def run(options: argparse.Namespace) -> int:
    """Print `--count` readings, or until Ctrl-C; the exit code. Raises EnergywsError."""
    # Its own messages replace those of libraries.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_tail(options))
    except BadArgument as error:
        _say(str(error))
        return ExitCode.CONFIG
    return ExitCode.OK


async def _tail(options: argparse.Namespace) -> None:
    await _Tail(options, os.environ).run()


class _Tail:
    """One run. `_reported`: the failures printed since the last subscription."""

    def __init__(self, options: argparse.Namespace, env: Mapping[str, str]) -> None:
        self._url = _usable(options.url)
        self._place = address(self._url)
        self._is_plain = self._url.startswith("ws:")
        self._count: int | None = options.count
        token = (options.token or env.get("WS_TOKEN") or "").strip() or None
        self._has_token = bool(token or parse_qs(urlsplit(self._url).query).get("token"))
        try:
            self._client = Client(
                self._url,
                token=token,
                streams=options.stream or ["energy"],
                keys=options.key,
                resume=_resume(options.resume or ()),
                since=options.since,
                last=options.last,
                snapshot=options.snapshot,
                max_rate=options.max_rate,
                on_state=self._on_state,
                ssl_context=_trust(options.cacert) if options.cacert else None,
            )
        except BadPosition as error:
            raise BadArgument(f"--resume: {error}") from None
        self._loop = asyncio.get_running_loop()
        self._last_reading_at = self._loop.time()
        self._cause: str | None = None
        self._reported: set[str] = set()
        self._verdict: str | None = None
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until `--count` readings are printed; raises NoReadings."""
        silence = self._loop.create_task(self._watch_silence())
        try:
            await self._print()
        except Refused as refused:
            raise NoReadings(self._explained(refused)) from None
        finally:
            silence.cancel()
            await self._client.close()
        if self._verdict is not None:
            raise NoReadings(self._verdict)

    async def _print(self) -> None:
        readings = 0
        async for message in self._client:
            if isinstance(message, Gap):
                missed = message.missed or "some"
                _say(f"{message.stream}: {missed} readings are missing ({message.reason})")
                continue
            self._last_reading_at = self._loop.time()
            print(_line(message), flush=True)
            readings += isinstance(message, Reading)
            if readings == self._count:
                return

    def _explained(self, refused: Refused) -> str:
        """The refusal, and the remedy if it is known."""
        text = str(refused)
        if refused.close in (401, 4401) and not self._has_token:
            return f"{text}: none was given; set WS_TOKEN, or add ?token= to the URL"
        if refused.close == 404:
            return f"{text}; the service answers at {PATH}"
        return text

    def _on_state(self, state: State, why: str) -> None:
        if state == "live":
            if self._reported:
                _say("subscribed")
            self._reported.clear()
            self._cause = None
        elif (failure := self._client.trouble) is not None and why:
            self._on_failure(failure)

    def _on_failure(self, failure: Failure) -> None:
        self._cause = failure.text
        if failure.kind in ("closed", "silence", "stream"):
            # Temporary, and mostly short.
            return
        never_connected = self._client.connects == 0
        if never_connected and (failure.kind in _PERMANENT or _is_final(failure)):
            self._end(_advice(failure))
        elif (
            never_connected
            and self._is_plain
            and failure.kind in ("cut", "status")
            and not self._reported
        ):
            self._ending = self._loop.create_task(self._probe(failure))
        else:
            self._report(failure)

    async def _probe(self, failure: Failure) -> None:
        """Find out whether a port that refuses plain HTTP speaks TLS."""
        if await _speaks_tls(self._place):
            self._end(f"{self._place} speaks TLS; write wss:// instead of ws://")
        elif failure.status == 400:
            self._end(f"{_advice(failure)}, not a WebSocket (is this the service's port?)")
        else:
            self._report(failure)

    def _report(self, failure: Failure) -> None:
        if failure.text not in self._reported:
            self._reported.add(failure.text)
            _say(f"{_advice(failure)}; trying again")

    def _end(self, verdict: str) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self._ending = self._loop.create_task(self._client.close())

    async def _watch_silence(self) -> None:
        printed: str | None = None
        while True:
            quiet = self._loop.time() - self._last_reading_at
            if quiet < SILENCE_SECONDS:
                printed = None
                await asyncio.sleep(SILENCE_SECONDS - quiet)
                continue
            why = self._why_silent()
            if why is not None and why != printed:
                printed = why
                _say(why)
            await asyncio.sleep(1)

    def _why_silent(self) -> str | None:
        """The reason for the silence; None if it was printed already."""
        if self._client.state == "live":
            return f"subscribed, but no reading has come for {SILENCE_SECONDS:g} s"
        if self._cause is None:
            return f"{self._place} has not answered yet"
        return None if self._cause in self._reported else f"no readings: {self._cause}"


def _usable(url: str) -> str:
    """The URL; raises BadArgument with the one that was probably meant."""
    scheme, separator, rest = url.partition("://")
    shown = without_secrets(rest if separator else url)
    if not separator:
        is_address = re.match(r"(?!wss?:)[\w.\[\]:-]+(/|$)", shown)
        meant = _with_path(shown) if is_address else f"HOST:PORT{PATH}"
        raise BadArgument(f"URL: no scheme: write ws://{meant}")
    if scheme.lower() in ("http", "https"):
        meant = f"{scheme.lower().replace('http', 'ws')}://{_with_path(_bare(shown))}"
        raise BadArgument(f"URL: {scheme}:// is not a WebSocket: write {meant}")
    if scheme not in ("ws", "wss"):
        raise BadArgument(
            f"URL: {without_secrets(scheme)}:// is not a WebSocket: use ws:// or wss://"
        )
    try:
        address(url)
    except ValueError:
        raise BadArgument(f"URL: cannot be used: write {scheme}://HOST:PORT{PATH}") from None
    if not urlsplit(url).path:
        raise BadArgument(f"URL: no path: write {scheme}://{_with_path(_bare(shown))}")
    return url


def _bare(shown: str) -> str:
    return shown.rpartition("@")[2]


def _with_path(shown: str) -> str:
    host, slash, path = shown.partition("/")
    return shown if slash and path else f"{host}{PATH}"


def _resume(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    resume = {}
    for text in texts:
        stream, colon, position = text.rpartition(":")
        resume[stream if colon else "energy"] = position
    return resume


def _trust(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise BadArgument(f"--cacert: {file} holds no certificate in PEM") from None
    except OSError as error:
        raise BadArgument(f"--cacert: {file}: {error.strerror}") from None


def _is_final(failure: Failure) -> bool:
    status = failure.status
    return failure.kind == "status" and status < 500 and status not in _TEMPORARY and status != 400


def _advice(failure: Failure) -> str:
    """The failure, and what to do about it."""
    text = failure.text
    match failure.kind:
        case "connection":
            return f"{text} (is the service running, and is this its port?)"
        case "websocket" | "cut":
            return f"{text} (is this the service's port?)"
        case "certificate" if "host" in text.rpartition(":")[2]:
            return f"{text}; use the name in the certificate"
        case "certificate":
            return f"{text}; name its authority with --cacert FILE"
        case "tls":
            return f"{text}; for a port without TLS use ws://"
        case "status" if _is_final(failure):
            return f"{text}, not a WebSocket; the service answers at {PATH}"
    return text


async def _speaks_tls(place: str) -> bool:
    host, _, port = place.rpartition(":")
    # No verification: nothing is sent over this connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _line(message: Reading | Removed) -> str:
    fields: dict[str, object] = {"stream": message.stream, "timestamp": message.timestamp}
    if isinstance(message, Removed):
        fields["removed"] = True
    else:
        fields["data"] = message.data
    # None of these is in every reading.
    if message.position:
        fields["position"] = message.position
    if message.key is not None:
        fields["key"] = message.key
    if isinstance(message, Reading) and message.is_snapshot:
        fields["is_snapshot"] = True
    try:
        return orjson.dumps(fields).decode()
    except TypeError:
        # A lone surrogate, or an integer of more than 64 bits: RFC 8259 allows both.
        return json.dumps(fields, separators=(",", ":"))


def _say(text: str) -> None:
    print(f"energyws: {text}", file=sys.stderr, flush=True)
