"""The `energyws` command and its verbs; energyws.cli.admin_verbs has those for a running one."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from energyws.cli import completion
from energyws.cli.admin_verbs import add_verbs
from energyws.cli.command import Command
from energyws.cli.options import add_config, load
from energyws.errors import ConfigError, EnergywsError, ExitCode

_DURATION: Final = re.compile(r"([0-9]+)([smhd])")
_RATE: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code of the process."""
    options = command_line().parse(sys.argv[1:] if arguments is None else arguments)
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
        # `energyws tail … | head`: the reader has ended, which is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code


def command_line() -> Command:
    """The verbs in the order in which a new user needs them."""
    command = Command("Kafka or Redpanda topics to WebSocket clients")
    command.group("to start")
    _add_demo(command)
    _add_configuration(command)
    command.group("for a running service")
    add_verbs(command)
    command.group("for clients")
    _add_token(command)
    _add_tail(command)
    command.group("for your shell")
    _add_completion(command)
    return command


def _add_demo(command: Command) -> None:
    text = "run broker, meters, service and clients, until Ctrl-C"
    add = command.add("demo", _demo, text, "energyws demo --meters 5", linux_only=True).add_argument
    add("--meters", type=_count, default=3, metavar="N", help="simulated meters (3)")
    add("--workers", type=_count, default=2, metavar="N", help="worker processes (2)")
    text = "listen here (127.0.0.1); 0.0.0.0 lets a phone in the same network connect"
    add("--host", default="127.0.0.1", help=text)
    text = "the service's port (8080; where it is taken, the next free one; 0: any)"
    add("--port", type=_port, default=8080, help=text)
    add("--clients", type=_count, default=20, metavar="N", help="clients of the screen (20)")
    text = "print readings as lines, as without a terminal, and stop after N"
    add("--count", type=int, metavar="N", help=text)
    add("--plain", action="store_true", help="print lines in a terminal, too")


def _add_configuration(command: Command) -> None:
    text = "print a configuration to start from: every key, explained"
    command.add("example-config", _example_config, text, "energyws example-config > config.yaml")
    text = "print a JSON Schema of the configuration, for editors"
    schema = command.add(
        "config-schema", _config_schema, text, "energyws config-schema > config.schema.json"
    )
    text = "print the same keys as a page in Markdown: docs/configuration.md"
    schema.add_argument("--markdown", action="store_true", help=text)
    text = "check the configuration and print it"
    example = "energyws check-config --config config.yaml"
    add_config(command.add("check-config", _check_config, text, example, linux_only=True))
    example = "energyws serve --config config.yaml --set server.workers=4"
    add_config(command.add("serve", _serve, "run the service", example, linux_only=True))


def _add_token(command: Command) -> None:
    text = "mint a development token from auth.jwt_secret"
    token = command.add("token", _token, text, "energyws token --sub me --ttl 1h")
    add_config(token)
    add = token.add_argument
    add("--sub", required=True, metavar="SUBJECT", help="the claim sub")
    add("--ttl", type=_duration, default=3600, metavar="DURATION", help="30s, 15m, 1h, 7d (1h)")
    add("--stream", action="append", metavar="NAME", help="allow this stream only (repeatable)")
    text = "allow this key (repeatable); 'A*': all that begin with A, '*': all (quote it)"
    add("--key", action="append", type=_key_right, metavar="KEY", help=text)


def _add_tail(command: Command) -> None:
    add = command.add(
        "tail",
        _tail,
        "print the readings of a service; reconnects as needed",
        "energyws tail ws://localhost:8080/ws/energy --last 5",
        notes="Readings go to standard output, one line of JSON each, and so do removed keys; "
        "messages to standard error. "
        "Exit codes: 0 after N readings, after Ctrl-C, or when the output is closed; "
        "1 when the service refuses this client, or URL is not such a service; "
        "2 for invalid arguments. While the service is away, it keeps trying.",
    ).add_argument
    add("url", metavar="URL", help="ws://HOST:PORT/ws/energy, or wss://")
    add("--token", help="the JWT; better in WS_TOKEN in the environment, which ps does not show")
    add("--stream", action="append", metavar="NAME", help="default: energy")
    text = "only records with this key (repeatable); 735*: with every key that begins so"
    add("--key", action="append", metavar="KEY", help=text)
    add("--snapshot", action="store_true", help="first the newest record of each key")
    text = "at most N times a second the newest record of each key; N may be a fraction"
    add("--max-rate", type=_rate, metavar="N", help=text)
    start = command.verbs["tail"].add_mutually_exclusive_group().add_argument
    start("--last", type=int, metavar="N", help="start with the newest N frames")
    start("--since", metavar="TIME", help="start at a time: 2026-01-31T12:00:00Z")
    text = "resume after this position; of another stream than energy: STREAM:ID"
    start("--resume", action="append", metavar="ID", help=text)
    add("--count", type=_count, metavar="N", help="stop after N readings")
    completion.takes_file(add("--cacert", metavar="FILE", help="trust this certificate authority"))


def _add_completion(command: Command) -> None:
    def run(options: argparse.Namespace) -> int:
        print(completion.script(command.parser, options.shell))
        return ExitCode.OK

    text = "print a script that completes verbs and options"
    example = "energyws completion bash > ~/.local/share/bash-completion/completions/energyws"
    add = command.add("completion", run, text, example).add_argument
    shells = ", ".join(completion.SHELLS)
    add("shell", choices=completion.SHELLS, metavar="SHELL", help=f"one of {shells}")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 on")
    return int(text)


def _rate(text: str) -> float:
    if not (_RATE.fullmatch(text) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0, such as 0.5")
    return float(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 0 to 65535")
    return int(text)


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write 30s, 15m, 1h or 7d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


# Imported where it is used, here and below: --help and completion need nothing of it.
def _key_right(text: str) -> str:
    from energyws.protocol.keys import escaped

    try:
        escaped(text if text == "*" else text.removesuffix("*"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _serve(options: argparse.Namespace) -> int:
    from energyws.control.config.files import check_files
    from energyws.control.supervisor import serve
    from energyws.logs.writer import configure

    settings = load(options)
    check_files(settings)
    configure(settings.log, "supervisor")
    return serve(settings, lambda: load(options))


def _check_config(options: argparse.Namespace) -> int:
    import asyncio

    from energyws.control.config.files import bad_denied_lines, check_files
    from energyws.control.config.load import describe
    from energyws.control.config.rules import warnings
    from energyws.control.reload.preflight import Preflight

    settings = load(options)
    check_files(settings)
    found = asyncio.run(Preflight().check(settings))
    print(describe(settings), end="")
    for warning in [*warnings(settings), *bad_denied_lines(settings), *found]:
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.OK


def _example_config(options: argparse.Namespace) -> int:
    from energyws.control.config.load import example

    print(example(), end="")
    return ExitCode.OK


def _config_schema(options: argparse.Namespace) -> int:
    if options.markdown:
        from energyws.control.config import reference
        from energyws.control.reload.plan import effect

        print(reference.page(effect), end="")
    else:
        import json

        from energyws.control.config.json_schema import json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
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
        options.key,
        streams_claim=auth.streams_claim,
        keys_claim=auth.keys_claim,
        issuer=auth.jwt_secret_issuer,
    )
    print(token)
    return ExitCode.OK


def _tail(options: argparse.Namespace) -> int:
    from energyws.cli.tail import run

    return run(options)


def _demo(options: argparse.Namespace) -> int:
    import asyncio

    from energyws.demo.show import Demo, Options

    chosen = Options(
        meters=options.meters,
        workers=options.workers,
        host=options.host,
        port=options.port,
        clients=options.clients,
        count=options.count,
        plain=options.plain,
    )
    # A reader behind a pipe sees each line at once.
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(Demo(chosen, functools.partial(print, flush=True)).run())
    return ExitCode.OK
