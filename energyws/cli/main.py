"""The `energyws` command and its verbs; those for a running service: energyws.cli.admin_verbs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from energyws.cli.admin_verbs import add_commands
from energyws.cli.options import add_config, load
from energyws.errors import ConfigError, EnergywsError, ExitCode
from energyws.version import installed

_DURATION: Final = re.compile(r"([0-9]+)([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code of the process."""
    options = _parser().parse_args(arguments)
    try:
        if options.linux_only and sys.platform != "linux":
            raise EnergywsError(
                f"the service runs on Linux only, and this is {sys.platform}; "
                "its clients run anywhere: energyws.client, energyws tail, energyws status"
            )
        code: int = options.run(options)
    except ConfigError as error:
        print("The configuration cannot be used:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return ExitCode.CONFIG
    except EnergywsError as error:
        print(f"energyws: {error}", file=sys.stderr)
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        # `energyws tail … | head`: nobody reads any more, which is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="energyws", description="Kafka or Redpanda topics to WebSocket clients."
    )
    parser.add_argument("--version", action="version", version=installed())
    parser.set_defaults(linux_only=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    serve = verbs.add_parser("serve", help="run the service")
    add_config(serve)
    serve.set_defaults(run=_serve, linux_only=True)

    check = verbs.add_parser("check-config", help="check the configuration and print it")
    add_config(check)
    check.set_defaults(run=_check_config, linux_only=True)

    example = verbs.add_parser(
        "example-config", help="print a configuration to begin with: every key, explained"
    )
    example.set_defaults(run=_example_config)

    add_commands(verbs)

    token = verbs.add_parser("token", help="mint a development token from auth.jwt_secret")
    add_config(token)
    token.add_argument("--sub", required=True, metavar="SUBJECT", help="whose token it is")
    token.add_argument(
        "--ttl", type=_duration, default=3600, metavar="DURATION", help="30s, 15m, 1h, 7d (1h)"
    )
    token.add_argument(
        "--stream", action="append", metavar="NAME", help="allow this stream only (repeatable)"
    )
    token.set_defaults(run=_token)

    _add_tail(verbs.add_parser("tail", help="print what a service sends, over any reconnects"))

    demo = verbs.add_parser("demo", help="broker, meters, service and a client, until Ctrl-C")
    demo.add_argument("--meters", type=int, default=3, metavar="N", help="simulated meters (3)")
    demo.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (2)")
    demo.add_argument("--port", type=int, default=8080, help="the WebSocket port (8080; 0: any)")
    demo.add_argument("--count", type=int, metavar="N", help="stop after N readings")
    demo.set_defaults(run=_demo, linux_only=True)
    return parser


def _add_tail(tail: argparse.ArgumentParser) -> None:
    tail.epilog = (
        "Readings go to standard output, a line of JSON each; all else to standard error. "
        "Exit codes: 0 after N readings, after Ctrl-C, or when nobody reads the output any more; "
        "1 when the service refuses this client, or URL has no such service; "
        "2 for arguments that cannot be used. It waits for a service that is away."
    )
    tail.add_argument("url", metavar="URL", help="ws://HOST:PORT/ws/energy, or wss://")
    tail.add_argument(
        "--token", help="the JWT; better in the environment as WS_TOKEN, where ps is blind"
    )
    tail.add_argument("--stream", action="append", metavar="NAME", help="default: energy")
    begin = tail.add_mutually_exclusive_group()
    begin.add_argument("--last", type=int, metavar="N", help="begin with the newest N frames")
    begin.add_argument("--since", metavar="TIME", help="begin at a time, 2026-01-31T12:00:00Z")
    begin.add_argument(
        "--resume", action="append", metavar="STREAM:ID", help="go on after this position"
    )
    tail.add_argument("--count", type=_count, metavar="N", help="stop after N readings")
    tail.add_argument("--cacert", metavar="FILE", help="trust this certificate authority")
    tail.set_defaults(run=_tail)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 on")
    return int(text)


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write 30s, 15m, 1h or 7d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _serve(options: argparse.Namespace) -> int:
    from energyws.control.config.load import check_files
    from energyws.control.supervisor import serve
    from energyws.logs.writer import configure

    settings = load(options)
    check_files(settings)
    configure(settings.log, "supervisor")
    return serve(settings, lambda: load(options))


def _check_config(options: argparse.Namespace) -> int:
    from energyws.control.config.load import check_files, describe, warnings
    from energyws.control.reload.preflight import Preflight

    settings = load(options)
    check_files(settings)
    asyncio.run(Preflight().of(settings))
    print(describe(settings), end="")
    for warning in warnings(settings):
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.OK


def _example_config(options: argparse.Namespace) -> int:
    from energyws.control.config.load import example

    print(example(), end="")
    return ExitCode.OK


def _token(options: argparse.Namespace) -> int:
    from energyws.auth.verifier import mint

    auth = load(options).auth
    if auth.jwt_secret is None:
        raise ConfigError(
            ["auth.jwt_secret is not set: only the issuer behind auth.jwks_url can mint tokens"]
        )
    token = mint(
        auth.jwt_secret,
        options.sub,
        options.ttl,
        time.time(),
        options.stream,
        streams_claim=auth.streams_claim,
    )
    print(token)
    return ExitCode.OK


def _tail(options: argparse.Namespace) -> int:
    from energyws.cli.tail import run

    return run(options)


def _demo(options: argparse.Namespace) -> int:
    from energyws.demo.show import Demo

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Demo(options.meters, options.workers, options.port, print).run(options.count))
    return ExitCode.OK
