"""The `energyws` command: its verbs, and the only place that prints."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from energyws.errors import ConfigError, EnergywsError, ExitCode
from energyws.settings import Level, Settings
from energyws.version import installed

if TYPE_CHECKING:
    from energyws.control.remote import Remote

DEFAULT_CONFIG: Final = "config/config.yaml"
STATUS_SECONDS: Final = 1.0
_DURATION: Final = re.compile(r"([0-9]+)([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code of the process."""
    options = _parser().parse_args(arguments)
    try:
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
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    serve = verbs.add_parser("serve", help="run the service")
    _add_config(serve)
    serve.set_defaults(run=_serve)

    check = verbs.add_parser("check-config", help="check the configuration and print it")
    _add_config(check)
    check.set_defaults(run=_check_config)

    scale = verbs.add_parser("scale", help="have a running service use N workers")
    scale.add_argument("workers", type=int, metavar="N")
    _add_admin(scale)
    scale.set_defaults(run=_scale)

    rebalance = verbs.add_parser(
        "rebalance", help="have workers with more than their share of clients shed some"
    )
    _add_admin(rebalance)
    rebalance.set_defaults(run=_rebalance)

    top = verbs.add_parser("top", help="watch a running service, and steer it")
    _add_admin(top)
    top.set_defaults(run=_top)

    status = verbs.add_parser("status", help="print what a running service shows of itself")
    status.add_argument("--json", action="store_true", help="all of it, for scripts")
    _add_admin(status)
    status.set_defaults(run=_status)
    log = verbs.add_parser("log", help="have all processes of a running service log at LEVEL")
    log.add_argument("level", type=str.upper, choices=get_args(Level), metavar="LEVEL")
    _add_admin(log)
    log.set_defaults(run=_log)

    token = verbs.add_parser("token", help="mint a development token from auth.jwt_secret")
    _add_config(token)
    token.add_argument("--sub", required=True, metavar="SUBJECT", help="whose token it is")
    token.add_argument(
        "--ttl", type=_duration, default=3600, metavar="DURATION", help="30s, 15m, 1h, 7d (1h)"
    )
    token.add_argument(
        "--stream", action="append", metavar="NAME", help="allow this stream only (repeatable)"
    )
    token.set_defaults(run=_token)

    tail = verbs.add_parser("tail", help="print what a service sends, over any reconnects")
    tail.add_argument("url", help="ws://HOST:PORT/ws/energy, or wss://")
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
    tail.add_argument("--count", type=int, metavar="N", help="stop after N readings")
    tail.add_argument("--cacert", metavar="FILE", help="trust this certificate authority")
    tail.set_defaults(run=_tail)

    demo = verbs.add_parser("demo", help="broker, meters, service and a client, until Ctrl-C")
    demo.add_argument("--meters", type=int, default=3, metavar="N", help="simulated meters (3)")
    demo.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (2)")
    demo.add_argument("--port", type=int, default=8080, help="the WebSocket port (8080; 0: any)")
    demo.add_argument("--count", type=int, metavar="N", help="stop after N readings")
    demo.set_defaults(run=_demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get("CONFIG_PATH") or DEFAULT_CONFIG),
        help=f"the YAML file (default: $CONFIG_PATH, else {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one key (repeatable)",
    )


def _add_admin(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument(
        "--admin",
        metavar="URL",
        help="http://HOST:PORT of its admin port (default: as the configuration says)",
    )


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write 30s, 15m, 1h or 7d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


# The control plane's libraries are imported where they are used: `energyws tail` needs none.
def _load(options: argparse.Namespace) -> Settings:
    from energyws.control.config import load

    return load(options.config, env=os.environ, overrides=options.overrides)


def _serve(options: argparse.Namespace) -> int:
    from energyws.control.config import check_files
    from energyws.control.supervisor import serve
    from energyws.log import configure

    settings = _load(options)
    check_files(settings)
    configure(settings.log, "supervisor")
    return serve(settings, lambda: _load(options))


def _check_config(options: argparse.Namespace) -> int:
    from energyws.control.config import check_files, describe, warnings
    from energyws.control.trial import Trial

    settings = _load(options)
    check_files(settings)
    asyncio.run(Trial().of(settings))
    print(describe(settings), end="")
    for warning in warnings(settings):
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.OK


def _remote(options: argparse.Namespace) -> Remote:
    from energyws.control.remote import Remote

    return Remote(_load(options).admin, options.admin)


def _scale(options: argparse.Namespace) -> int:
    said = _remote(options).post("/workers", {"workers": options.workers})
    print(f"workers: {said['before']} before, {said['workers']} now")
    return ExitCode.OK


def _log(options: argparse.Namespace) -> int:
    said = _remote(options).post("/log", {"level": options.level})
    print(f"log level: {said['before']} before, {said['level']} now")
    return ExitCode.OK


def _rebalance(options: argparse.Namespace) -> int:
    shed = _remote(options).post("/rebalance", None)["shed"]
    for name, count in shed.items():
        print(f"{name} sheds {count} clients")
    if not shed:
        print("no worker has more than its share")
    return ExitCode.OK


def _top(options: argparse.Namespace) -> int:
    try:
        from energyws.control.top.live import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        raise EnergywsError(
            "energyws top needs rich: pip install 'energyws[top]'; "
            "without it there is: energyws status"
        ) from None
    return run(_remote(options))


def _status(options: argparse.Namespace) -> int:
    from energyws.control.top.service import look

    remote = _remote(options)
    first = look(remote)
    if options.json:
        import orjson

        print(orjson.dumps(first).decode())
        return ExitCode.OK
    from energyws.control.top.model import view
    from energyws.control.top.summary import summary

    # Rates are differences.
    time.sleep(STATUS_SECONDS)
    print(summary(view(look(remote), first)))
    return ExitCode.OK


def _token(options: argparse.Namespace) -> int:
    from energyws.auth import mint

    auth = _load(options).auth
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
    resume = {}
    for text in options.resume or ():
        stream, colon, position = text.rpartition(":")
        resume[stream if colon else "energy"] = position
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_print_frames(options, resume))
    return ExitCode.OK


async def _print_frames(options: argparse.Namespace, resume: dict[str, str]) -> None:
    import orjson

    from energyws.client import Client, Gap

    client = Client(
        options.url,
        token=options.token or os.environ.get("WS_TOKEN"),
        streams=options.stream or ["energy"],
        resume=resume,
        since=options.since,
        last=options.last,
        ssl_context=ssl.create_default_context(cafile=options.cacert) if options.cacert else None,
    )
    async with contextlib.aclosing(client.messages()) as messages:
        readings = 0
        async for message in messages:
            if isinstance(message, Gap):
                print(
                    f"{message.stream}: {message.missed or 'some'} readings are missing "
                    f"({message.reason})",
                    file=sys.stderr,
                )
                continue
            print(orjson.dumps(message).decode(), flush=True)
            readings += 1
            if readings == options.count:
                return


def _demo(options: argparse.Namespace) -> int:
    from energyws.demo.show import Demo

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Demo(options.meters, options.workers, options.port, print).run(options.count))
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
