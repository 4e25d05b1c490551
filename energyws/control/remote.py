"""Asking a running service to do something, over its admin port."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from energyws.errors import EnergywsError
from energyws.settings import Admin

TIMEOUT_SECONDS: Final = 30.0


class NotDone(EnergywsError):
    """The service could not be asked, or refused."""


def post(admin: Admin, url: str | None, path: str, body: object) -> Any:
    """What the service answers; `url` is where its admin port is, if not where `admin` says."""
    parts = urlsplit(url or f"http://{_bracketed(admin.host)}:{admin.port}")
    if parts.scheme != "http" or parts.hostname is None:
        raise NotDone("--admin: use http://HOST:PORT")
    headers = {"Content-Type": "application/json"}
    if admin.token is not None:
        headers["Authorization"] = f"Bearer {admin.token}"
    where = f"{_bracketed(parts.hostname)}:{parts.port or 80}"
    connection = HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", path, orjson.dumps(body), headers)
        with connection.getresponse() as answer:
            said = orjson.loads(answer.read())
            if answer.status != 200:
                raise NotDone(f"{where} answers {answer.status}: {said.get('error')}")
            return said
    except (OSError, HTTPException) as error:
        raise NotDone(f"nobody answers on {where}: {error} (is this the service?)") from None
    except orjson.JSONDecodeError:
        raise NotDone(f"what answers on {where} is not an energyws service") from None
    finally:
        connection.close()


def _bracketed(host: str) -> str:
    # The addresses that mean "everywhere" are no place to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
