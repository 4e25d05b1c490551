"""The admin port, or its socket, and the port for metrics beside it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from energyws.control.admin import guard
from energyws.control.admin.server import AdminServer, Answers, Commands, Pages
from energyws.control.admin.sockets import listen_on_address, listen_on_path, remove
from energyws.logs.events import Log
from energyws.settings import Admin

_log = Log("supervisor")


class AdminPorts:
    """Both servers, listening. Raises BootError if they cannot.

    port: the admin port; 0 if it is a Unix socket. metrics_port: None if there is none.
    """

    def __init__(self, admin: Admin, answers: Answers, pages: Pages, commands: Commands) -> None:
        self._admin = admin
        with ExitStack() as stack:
            if admin.socket is not None:
                listening = listen_on_path(admin.socket)
                stack.callback(remove, admin.socket)
            else:
                listening = listen_on_address("admin.host, admin.port", admin.host, admin.port)
            self._server = AdminServer(listening, guard.for_port(admin), answers, pages, commands)
            stack.callback(self._server.close)
            self.port: Final = self._server.port
            self._metrics: AdminServer | None = None
            # Who may scrape need not see more, nor be able to act.
            if admin.metrics_port is not None:
                keys = "admin.metrics_host, admin.metrics_port"
                self._metrics = AdminServer(
                    listen_on_address(keys, admin.metrics_host, admin.metrics_port),
                    guard.for_metrics(admin),
                    {path: answers[path] for path in answers.keys() & guard.OPEN_PATHS},
                    {guard.METRICS_PATH: pages[guard.METRICS_PATH]},
                    {},
                )
                stack.callback(self._metrics.close)
            self.metrics_port: Final = self._metrics and self._metrics.port
            self._close: Final = stack.pop_all().close

    def announce(self) -> None:
        """Log where they listen."""
        if self._admin.socket is not None:
            _log.info("admin listening on a socket", path=self._admin.socket)
        else:
            _log.info("admin listening", host=self._admin.host, port=self.port)
        if self.metrics_port is not None:
            _log.info("metrics served", host=self._admin.metrics_host, port=self.metrics_port)

    def use(self, admin: Admin) -> None:
        """From now on, these are the token and the hosts."""
        self._server.guard = guard.for_port(admin)
        if self._metrics is not None:
            self._metrics.guard = guard.for_metrics(admin)

    def close(self) -> None:
        """Stop listening."""
        self._close()
