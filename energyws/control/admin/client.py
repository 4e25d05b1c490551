"""Asking a running service for something, or to do something, over its admin port."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from energyws.errors import EnergywsError
from energyws.settings import Admin

COMMAND_SECONDS: Final = 30.0
# What only reads answers at once, or something is wrong.
LOOK_SECONDS: Final = 5.0
_UNAUTHORIZED: Final = 401
_HOW: Final = "--admin: use http://HOST:PORT"


class AdminRequestFailed(EnergywsError):
    """The service could not be asked, or refused."""


class AdminClient:
    """The admin port at `url`, or where `admin` says that it is.

    token: gives admin.token, or None, where `admin` has none; it is called only if the service
    wants one, and may raise ConfigError.
    Raises AdminRequestFailed if there is no such address, and from each call that brings no answer.
    """

    def __init__(
        self,
        admin: Admin,
        url: str | None = None,
        token: Callable[[], str | None] | None = None,
    ) -> None:
        if url is None and not admin.port:
            raise AdminRequestFailed(
                "admin.port is 0, a port that only the log line `admin listening` tells: "
                "use --admin http://HOST:PORT"
            )
        if url is None:
            url = f"http://{_bracketed(admin.host)}:{admin.port}"
        host, port = _address(url)
        self._host: Final = host
        self._port: Final = port
        self._token = admin.token
        self._find_token = token
        self.where: Final = f"{_bracketed(host)}:{port}"

    def get(self, path: str) -> Any:
        """What the service tells; needs no token."""
        return self._said(*self._ask("GET", path, None, LOOK_SECONDS))

    def post(self, path: str, body: object, *keys: str) -> Any:
        """What the service answers to a command: an object with these keys, and maybe others."""
        data = orjson.dumps(body)
        status, said = self._ask("POST", path, data, COMMAND_SECONDS)
        # Looked for only now: most services have no token, and its variable may not be set here.
        if status == _UNAUTHORIZED and self._token is None and self._find_token is not None:
            self._token = self._find_token()
            if self._token is not None:
                status, said = self._ask("POST", path, data, COMMAND_SECONDS)
        answer = self._said(status, said)
        if not isinstance(answer, dict) or not answer.keys() >= set(keys):
            raise self.stranger()
        return answer

    def _said(self, status: int, said: Any) -> Any:
        if status == 200:
            return said
        reason = said.get("error") if isinstance(said, dict) else None
        if not isinstance(reason, str):
            raise self.stranger()
        if status == _UNAUTHORIZED and self._token is None:
            raise AdminRequestFailed(
                f"{self.where} wants its admin.token: set ENERGYWS_ADMIN__TOKEN, "
                "or name its configuration with --config FILE"
            )
        if status == _UNAUTHORIZED:
            raise AdminRequestFailed(
                f"{self.where} has another admin.token than the one that was sent"
            )
        problems = said.get("problems")
        listed = problems if isinstance(problems, list) else []
        raise AdminRequestFailed(
            "\n  ".join([f"{self.where} answers {status}: {reason}", *map(str, listed)]),
        )

    def _ask(self, method: str, path: str, body: bytes | None, seconds: float) -> tuple[int, Any]:
        headers = {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
        connection = HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.connect()
        except TimeoutError:
            raise AdminRequestFailed(f"{self.where} does not answer within {seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no such host"
            raise AdminRequestFailed(
                f"nobody answers on {self.where}: {reason} "
                "(is the service running, and is this its admin.port?)"
            ) from None
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as answer:
                return answer.status, orjson.loads(answer.read())
        except TimeoutError:
            raise AdminRequestFailed(f"{self.where} does not answer within {seconds:g} s") from None
        except (ConnectionError, HTTPException, orjson.JSONDecodeError):
            # What speaks another protocol hangs up, or answers in that one.
            raise self.stranger() from None
        except ValueError:
            raise AdminRequestFailed(
                "admin.token holds characters that no request can carry"
            ) from None
        except OSError as error:
            raise AdminRequestFailed(f"{self.where} broke off: {error.strerror}") from None
        finally:
            connection.close()

    def stranger(self) -> AdminRequestFailed:
        """What to raise when an answer is none that this service gives."""
        return AdminRequestFailed(
            f"what answers on {self.where} is not the admin port of an energyws service: "
            "its log line `admin listening` has the port"
        )


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        # It looks at every character of the host.
        HTTPConnection(host, port)
    except (ValueError, InvalidURL):
        raise AdminRequestFailed(_HOW) from None
    if parts.scheme != "http" or not host:
        raise AdminRequestFailed(_HOW)
    return host, port


def _bracketed(host: str) -> str:
    # The addresses that mean "everywhere" are no place to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
