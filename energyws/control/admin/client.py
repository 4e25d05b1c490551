"""A client of the admin port of a running service."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from energyws.control.admin.unix_connection import UnixConnection
from energyws.errors import EnergywsError
from energyws.settings import Admin

POST_SECONDS: Final = 30.0
# GET is answered at once, or something is wrong.
GET_SECONDS: Final = 5.0
_UNAUTHORIZED: Final = 401
_HOW: Final = "--admin: use http://HOST:PORT or unix:PATH"
_UNIX: Final = "unix:"


class AdminRequestFailed(EnergywsError):
    """The service could not be asked, or refused."""


class AdminClient:
    """The admin port at `url`, or at the address or the socket in `admin`.

    token: returns admin.token or None, if `admin` has none. It is called only if the service
    requires a token, and may raise ConfigError.
    Raises AdminRequestFailed if the address is not valid, and so does each request that fails.
    """

    def __init__(
        self,
        admin: Admin,
        url: str | None = None,
        token: Callable[[], str | None] | None = None,
    ) -> None:
        if url is None and admin.socket is not None:
            url = f"{_UNIX}{admin.socket}"
        if url is None and not admin.port:
            raise AdminRequestFailed(
                "admin.port is 0, so only the log line `admin listening` has the port: "
                "use --admin http://HOST:PORT"
            )
        if url is None:
            url = f"http://{_bracketed(admin.host)}:{admin.port}"
        self._connect, self.where = _target(url)
        self._token = admin.token
        self._find_token = token

    def get(self, path: str) -> Any:
        """The JSON body of the answer."""
        return self._ask("GET", path, None, GET_SECONDS)

    def post(self, path: str, body: object, *keys: str) -> Any:
        """The JSON body of the answer: an object that has at least these keys."""
        answer = self._ask("POST", path, orjson.dumps(body), POST_SECONDS)
        if not isinstance(answer, dict) or not answer.keys() >= set(keys):
            raise self.stranger()
        return answer

    def _ask(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        status, answer = self._request(method, path, body, seconds)
        # Only now: most services have no token, and its variable may not be set here.
        if status == _UNAUTHORIZED and self._token is None and self._find_token is not None:
            self._token = self._find_token()
            if self._token is not None:
                status, answer = self._request(method, path, body, seconds)
        return self._checked(status, answer)

    def _checked(self, status: int, answer: Any) -> Any:
        if status == 200:
            return answer
        reason = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(reason, str):
            raise self.stranger()
        if status == _UNAUTHORIZED and self._token is None:
            raise AdminRequestFailed(
                f"{self.where} requires admin.token: set ENERGYWS_ADMIN__TOKEN, "
                "or name its configuration with --config FILE"
            )
        if status == _UNAUTHORIZED:
            raise AdminRequestFailed(f"{self.where} does not accept this admin.token")
        problems = answer.get("problems")
        listed = problems if isinstance(problems, list) else []
        raise AdminRequestFailed(
            "\n  ".join([f"{self.where} answers {status}: {reason}", *map(str, listed)]),
        )

    def _request(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[int, Any]:
        headers = {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect(seconds)
        try:
            connection.connect()
        except TimeoutError:
            raise AdminRequestFailed(f"{self.where} does not answer within {seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no such host"
            raise AdminRequestFailed(
                f"cannot connect to {self.where}: {reason} "
                "(is the service running, and is this its admin.port?)"
            ) from None
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as answer:
                return answer.status, orjson.loads(answer.read())
        except TimeoutError:
            raise AdminRequestFailed(f"{self.where} does not answer within {seconds:g} s") from None
        except (ConnectionError, HTTPException, orjson.JSONDecodeError):
            # A server of another protocol hangs up, or answers in its own.
            raise self.stranger() from None
        except ValueError:
            raise AdminRequestFailed(
                "admin.token has characters that no HTTP header can have"
            ) from None
        except OSError as error:
            raise AdminRequestFailed(
                f"the connection to {self.where} failed: {error.strerror}"
            ) from None
        finally:
            connection.close()

    def stranger(self) -> AdminRequestFailed:
        """The error for an answer that no energyws service gives."""
        return AdminRequestFailed(
            f"{self.where} is not the admin port of an energyws service: "
            "its log line `admin listening` has the port"
        )


def _target(url: str) -> tuple[Callable[[float], HTTPConnection], str]:
    """How to connect, with a timeout in seconds, and the address to show."""
    if url.startswith(_UNIX):
        path = url.removeprefix(_UNIX)
        if not path:
            raise AdminRequestFailed(_HOW)
        return lambda seconds: UnixConnection(path, seconds), path
    host, port = _address(url)
    where = f"{_bracketed(host)}:{port}"
    return lambda seconds: HTTPConnection(host, port, timeout=seconds), where


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        # Checks every character of the host.
        HTTPConnection(host, port)
    except (ValueError, InvalidURL):
        raise AdminRequestFailed(_HOW) from None
    if parts.scheme != "http" or not host:
        raise AdminRequestFailed(_HOW)
    return host, port


def _bracketed(host: str) -> str:
    # One cannot connect to the addresses that mean "all interfaces".
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
