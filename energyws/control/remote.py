"""Asking a running service for something, or to do something, over its admin port."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from energyws.errors import EnergywsError
from energyws.settings import Admin

COMMAND_SECONDS: Final = 30.0
# What only reads answers at once, or something is wrong.
LOOK_SECONDS: Final = 5.0


class NotDone(EnergywsError):
    """The service could not be asked, or refused."""


class Remote:
    """The admin port at `url`, or where `admin` says that it is.

    Raises NotDone if the URL is none, and from each call that brings no answer.
    """

    def __init__(self, admin: Admin, url: str | None = None) -> None:
        parts = urlsplit(url or f"http://{_bracketed(admin.host)}:{admin.port}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or parts.hostname is None or not port:
            raise NotDone("--admin: use http://HOST:PORT")
        self._host: Final = parts.hostname
        self._port: Final = port
        self._token = admin.token
        self.where: Final = f"{_bracketed(parts.hostname)}:{port}"

    def get(self, path: str) -> Any:
        """What the service tells; needs no token."""
        return self._ask("GET", path, None, {}, LOOK_SECONDS)

    def post(self, path: str, body: object) -> Any:
        """What the service answers to a command."""
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return self._ask("POST", path, orjson.dumps(body), headers, COMMAND_SECONDS)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float
    ) -> Any:
        connection = HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as answer:
                said = orjson.loads(answer.read())
                if answer.status != 200:
                    raise NotDone(f"{self.where} answers {answer.status}: {_reason(said)}")
                return said
        except (OSError, HTTPException) as error:
            raise NotDone(
                f"nobody answers on {self.where}: {error} (is this the service?)"
            ) from None
        except orjson.JSONDecodeError:
            raise NotDone(f"what answers on {self.where} is not an energyws service") from None
        finally:
            connection.close()


def _reason(said: Any) -> object:
    return said.get("error") if isinstance(said, dict) else said


def _bracketed(host: str) -> str:
    # The addresses that mean "everywhere" are no place to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
