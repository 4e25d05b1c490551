"""The command line of the kit: a line for each case, and exit status 1 if any has failed."""

from __future__ import annotations

import argparse
import os
import ssl
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

from energyws.errors import ExitCode
from energyws.testing.conformance import client, server
from energyws.testing.conformance.table import (
    ClientCase,
    Result,
    ServerCase,
    client_cases,
    server_cases,
)
from energyws.testing.conformance.target import Fault, Target, features

_PROGRAM: Final = "python -m energyws.testing.conformance"
_Case = TypeVar("_Case", ServerCase, ClientCase)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge a server or a client; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["client"]:
        options = _client_parser().parse_args(given[1:])
        judged, results = options.command[0], _client(options)
    else:
        options = _server_parser().parse_args(given)
        judged, results = options.url, _server(options)
    try:
        return _report(results)
    except (Fault, OSError) as error:
        print(f"{judged}: {error}", file=sys.stderr)
        return ExitCode.FAILURE


def _server_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Replay the exchanges of the protocol to a server, which it changes nothing "
        f"in. For a client: {_PROGRAM} client --help",
    )
    add = parser.add_argument
    add("url", metavar="URL", type=_url, help="ws://HOST:PORT/ws/energy, or wss://")
    text = "the environment variable that has a valid token (WS_TOKEN)"
    add("--token-env", default="WS_TOKEN", metavar="NAME", help=text)
    add("--stream", default="energy", help="a stream that the token allows (energy)")
    add("--cacert", metavar="FILE", help="trust this certificate authority")
    _add_common(parser)
    return parser


def _client_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} client",
        description=client.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "it gets its tokens from WS_TOKEN_URL where there is one"
    parser.add_argument("--token-function", action="store_true", help=text)
    text = "it asks for the keys in WS_KEYS, and for a snapshot where WS_SNAPSHOT is 1"
    parser.add_argument("--keys", action="store_true", help=text)
    _add_common(parser)
    text = "after --: the command, to which the URL is added"
    parser.add_argument("command", nargs="+", metavar="COMMAND", help=text)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    text = "only cases whose id begins so (repeatable)"
    parser.add_argument("--only", action="append", metavar="ID", help=text)
    text = "how long one step of a server, or one case of a client, may take (10, 30)"
    parser.add_argument("--seconds", type=float, metavar="N", help=text)


def _url(text: str) -> str:
    meant = "write ws://HOST:PORT/ws/energy, or wss://"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path in ("", "/"):
        raise argparse.ArgumentTypeError(f"{text!r}: {meant}")
    if parts.query:
        raise argparse.ArgumentTypeError("leave out the query: the token is read from --token-env")
    return text


def _server(options: argparse.Namespace) -> Iterator[Result]:
    token = os.environ.get(options.token_env, "").strip()
    if not token:
        raise Fault(f"put a valid token into the environment variable {options.token_env}")
    seconds = options.seconds or 10.0
    target = Target(options.url, token, options.stream, seconds, _trust(options.cacert))
    missing = features(target)
    for case in _chosen(server_cases(), options.only):
        yield server.judge(case, target, missing)


def _trust(file: str | None) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=file) if file else None
    except OSError as error:
        raise Fault(f"--cacert {file}: {error.strerror or error}") from None


def _client(options: argparse.Namespace) -> Iterator[Result]:
    seconds = options.seconds or 30.0
    for case in _chosen(client_cases(), options.only):
        yield client.judge(
            case,
            options.command,
            has_function=options.token_function,
            has_keys=options.keys,
            seconds=seconds,
        )


def _chosen(cases: Iterable[_Case], only: list[str] | None) -> Iterator[_Case]:
    return (case for case in cases if only is None or case.id.startswith(tuple(only)))


def _report(results: Iterator[Result]) -> int:
    counts = Counter[str]()
    for each in results:
        counts[each.verdict] += 1
        print(f"{each.verdict:4}  {each.case.id:18}  {each.case.rule}")
        if each.detail:
            print(f"{'':26}{each.detail}", flush=True)
    print(
        f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['warn']} warnings, "
        f"{counts['skip']} skipped"
    )
    if not counts:
        print("no case has such an id", file=sys.stderr)
    return ExitCode.FAILURE if counts["FAIL"] or not counts else ExitCode.OK
