"""The verbs that look at a running service, or change it, over its admin port.

They need its address and, where it has one, admin.token: none of its secrets, and nothing else of
its configuration.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any, Final, get_args

from energyws.cli.options import add_config, load_admin, load_token
from energyws.errors import ConfigError, EnergywsError, ExitCode
from energyws.settings import MAX_WORKERS, Admin, Level

if TYPE_CHECKING:
    from energyws.control.admin.client import AdminClient

STATUS_SECONDS: Final = 1.0
_EXITS: Final = (
    "exit status: 0, done; 1, no answer or a refusal, with the reason; 2, what was typed, or the "
    "section admin of the configuration, cannot be used"
)


def add_commands(verbs: Any) -> None:
    """The verbs, for the parser of the command line."""

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXITS
        )
        add_config(parser)
        parser.add_argument(
            "--admin",
            metavar="URL",
            help="http://HOST:PORT of its admin port; the configuration is then read only for "
            "admin.token, if the service wants one (default: as the configuration says, else "
            f"http://{Admin().host}:{Admin().port})",
        )
        parser.set_defaults(run=run)
        return parser

    scale = add("scale", _scale, "have a running service use N workers")
    scale.add_argument("workers", type=int, metavar="N", help=f"1 to {MAX_WORKERS}")
    add(
        "rebalance",
        _rebalance,
        "have workers with more than their share of clients shed some",
    )
    add("roll", _roll, "have a running service replace every process, one at a time")
    add("reload", _reload, "have a running service read its configuration, keys and files again")
    add("drain", _drain, "have a running service send its clients away and end")
    log = add("log", _log, "have all processes of a running service log at LEVEL")
    log.add_argument("level", type=str.upper, choices=get_args(Level), metavar="LEVEL")
    status = add("status", _status, "print what a running service shows of itself")
    status.add_argument("--json", action="store_true", help="all of it, for scripts")
    add("top", _top, "watch a running service, and steer it")


def _remote(options: argparse.Namespace) -> AdminClient:
    from energyws.control.admin.client import AdminClient

    if options.admin is not None:
        return AdminClient(Admin(), options.admin, lambda: _token_beside(options))
    return AdminClient(load_admin(options), token=lambda: load_token(options))


def _token_beside(options: argparse.Namespace) -> str | None:
    # There need not be a configuration for an address that was typed.
    try:
        return load_token(options)
    except ConfigError:
        if options.config is not None:
            raise
        return None


def _scale(options: argparse.Namespace) -> int:
    said = _remote(options).post("/workers", {"workers": options.workers}, "before", "workers")
    print(f"workers: {said['before']} before, {said['workers']} now")
    return ExitCode.OK


def _rebalance(options: argparse.Namespace) -> int:
    shed = _remote(options).post("/rebalance", None, "shed")["shed"]
    for name, count in shed.items():
        print(f"{name} sheds {count} clients")
    if not shed:
        print("no worker has more than its share")
    return ExitCode.OK


def _roll(options: argparse.Namespace) -> int:
    _remote(options).post("/roll", None, "replacing")
    print("every process is being replaced, one at a time; the log says how it goes")
    return ExitCode.OK


def _reload(options: argparse.Namespace) -> int:
    said = _remote(options).post("/reload", None, "changed", "restart")
    print(f"reloaded; changed: {', '.join(said['changed']) or 'nothing'}")
    if said["restart"]:
        print(f"only a restart brings these into force: {', '.join(said['restart'])}")
    return ExitCode.OK


def _drain(options: argparse.Namespace) -> int:
    seconds = _remote(options).post("/drain", None, "seconds")["seconds"]
    print(f"clients are being sent away, within {seconds:g} s; then the service ends")
    return ExitCode.OK


def _log(options: argparse.Namespace) -> int:
    said = _remote(options).post("/log", {"level": options.level}, "before", "level")
    print(f"log level: {said['before']} before, {said['level']} now")
    return ExitCode.OK


def _top(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise EnergywsError("energyws top needs a POSIX terminal; there is: energyws status")
    from energyws.control.status.live import run

    return run(_remote(options))


def _status(options: argparse.Namespace) -> int:
    from energyws.control.status.service import look

    remote = _remote(options)
    first = look(remote)
    if options.json:
        import orjson

        print(orjson.dumps(first).decode())
        return ExitCode.OK
    from energyws.control.status.model import view
    from energyws.control.status.summary import summary

    # Rates are differences.
    time.sleep(STATUS_SECONDS)
    print(summary(view(look(remote), first)))
    return ExitCode.OK
