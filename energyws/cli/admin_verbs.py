"""The verbs that show or change a running service, over its admin port.

They need its address and, where it has one, admin.token; no other secret, and nothing else of its
configuration.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final, get_args

from energyws.cli.command import Command, Verb
from energyws.cli.options import add_config, load_admin, load_token, names_admin
from energyws.errors import ConfigError, EnergywsError, ExitCode
from energyws.settings import MAX_WORKERS, Admin, Level

if TYPE_CHECKING:
    from energyws.control.admin.client import AdminClient

STATUS_SECONDS: Final = 1.0
_EXITS: Final = (
    "exit status: 0, done; 1, no answer or a refusal, with the reason; 2, the arguments or the "
    "section admin of the configuration cannot be used"
)


def add_verbs(command: Command) -> None:
    """Add the verbs to the command line."""

    def add(name: str, run: Verb, text: str, example: str) -> argparse.ArgumentParser:
        parser = command.add(name, run, text, example, notes=_EXITS)
        add_config(parser)
        parser.add_argument(
            "--admin",
            metavar="URL",
            help="http://HOST:PORT of its admin port, or unix:PATH of its socket; the "
            "configuration is then read only for admin.token, if the service requires one "
            f"(default: from the configuration, else http://{Admin().host}:{Admin().port})",
        )
        return parser

    text = "print the state of a running service"
    status = add("status", _status, text, "energyws status --config config.yaml")
    status.add_argument("--json", action="store_true", help="the whole document, for scripts")
    text = "watch a running service, and steer it"
    add("top", _top, text, "energyws top --admin http://127.0.0.1:8490")
    scale = add(
        "scale", _scale, "set the number of workers of a running service", "energyws scale 4"
    )
    scale.add_argument("workers", type=int, metavar="N", help=f"1 to {MAX_WORKERS}")
    text = "have workers with more than their share of clients shed some"
    add("rebalance", _rebalance, text, "energyws rebalance")
    text = "replace every process of a running service, one at a time"
    add("roll", _roll, text, "energyws roll")
    text = "have a running service read configuration and files again"
    add("reload", _reload, text, "energyws reload --config config.yaml")
    text = "set the log level of a running service"
    log = add("log", _log, text, "energyws log DEBUG")
    log.add_argument("level", type=str.upper, choices=get_args(Level), metavar="LEVEL")
    text = "have a running service close its connections, and end"
    add("drain", _drain, text, "energyws drain")


def _admin(options: argparse.Namespace) -> AdminClient:
    from energyws.control.admin.client import AdminClient

    if options.admin is not None:
        return AdminClient(Admin(), options.admin, lambda: _token_beside(options))
    return AdminClient(load_admin(options), token=lambda: load_token(options))


def _admin_or_demo(options: argparse.Namespace) -> AdminClient:
    """For the verbs that look: without any configuration, a demo that runs beside them is meant."""
    if sys.platform == "linux" and options.admin is None and not names_admin(options):
        from energyws.control.admin.client import AdminClient
        from energyws.demo.announcement import find

        if (port := find()) is not None:
            return AdminClient(Admin(port=port))
    return _admin(options)


def _token_beside(options: argparse.Namespace) -> str | None:
    # With --admin the configuration is optional.
    try:
        return load_token(options)
    except ConfigError:
        if options.config is not None:
            raise
        return None


def _scale(options: argparse.Namespace) -> int:
    from energyws.control.status.service import scale

    print(scale(_admin(options), options.workers))
    return ExitCode.OK


def _rebalance(options: argparse.Namespace) -> int:
    from energyws.control.status.service import rebalance

    print(rebalance(_admin(options)))
    return ExitCode.OK


def _roll(options: argparse.Namespace) -> int:
    from energyws.control.status.service import roll

    print(roll(_admin(options)))
    return ExitCode.OK


def _drain(options: argparse.Namespace) -> int:
    from energyws.control.status.service import drain

    print(drain(_admin(options)))
    return ExitCode.OK


def _reload(options: argparse.Namespace) -> int:
    answer = _admin(options).post("/reload", None, "changed", "restart")
    print(f"reloaded; changed: {', '.join(answer['changed']) or 'nothing'}")
    if answer["restart"]:
        print(f"these take effect after a restart only: {', '.join(answer['restart'])}")
    return ExitCode.OK


def _log(options: argparse.Namespace) -> int:
    answer = _admin(options).post("/log", {"level": options.level}, "before", "level")
    print(f"log level: {answer['before']} before, {answer['level']} now")
    return ExitCode.OK


def _top(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise EnergywsError("energyws top needs a POSIX terminal; there is: energyws status")
    from energyws.control.status.live import run

    return run(_admin_or_demo(options))


def _status(options: argparse.Namespace) -> int:
    from energyws.control.status.service import look

    admin = _admin_or_demo(options)
    first = look(admin)
    if options.json:
        import orjson

        print(orjson.dumps(first).decode())
        return ExitCode.OK
    from energyws.control.status.model import view
    from energyws.control.status.summary import summary

    # Rates are differences.
    time.sleep(STATUS_SECONDS)
    print(summary(view(look(admin), first)))
    return ExitCode.OK
