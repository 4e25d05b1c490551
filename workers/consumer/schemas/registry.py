"""Asks a schema registry over HTTP, with deadlines; for one thread."""

from __future__ import annotations

import ssl
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPException, InvalidURL
from typing import Final

from energyws.errors import BootError
from energyws.schemas.answers import (
    MAX_ANSWER_BYTES,
    Document,
    Unavailable,
    Unreachable,
    document,
)
from energyws.schemas.values import BadSchema
from energyws.settings import SchemaRegistry
from workers.http_get import Resolver, get

_ACCEPT: Final = "application/vnd.schemaregistry.v1+json, application/json"


class Registry:
    """One registry. Raises BootError if its certificate authorities cannot be read."""

    def __init__(self, settings: SchemaRegistry) -> None:
        self._url = (settings.url or "").rstrip("/")
        self._timeout = settings.timeout_seconds
        self._resolver = Resolver()
        self._headers = {"Accept": _ACCEPT}
        if settings.username is not None:
            user = f"{settings.username}:{settings.password or ''}"
            self._headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._ca = settings.ca
        self._context: ssl.SSLContext | None = None
        if self._url.startswith("https:"):
            try:
                self._context = ssl.create_default_context(cafile=self._ca)
            except OSError as error:
                # An error of the certificates' syntax is one, too.
                reason = error.strerror or type(error).__name__
                raise BootError(f"schema_registry.ca: cannot be used: {reason}") from None

    def document(self, path: str) -> Document:
        """The schema that is there; raises Missing, BadSchema, Unavailable or Unreachable."""
        if self._context is not None and self._ca is not None:
            # Who renews the authorities replaces the file. One that is being written, or is gone,
            # leaves those that were there.
            with suppress(OSError):
                self._context = ssl.create_default_context(cafile=self._ca)
        try:
            answer = get(
                self._url + path,
                self._timeout,
                self._resolver,
                MAX_ANSWER_BYTES,
                headers=self._headers,
                context=self._context,
            )
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"its certificate is not trusted: {error.verify_message}: set schema_registry.ca",
                misconfigured=True,
            ) from None
        except ssl.SSLError as error:
            raise Unreachable(
                f"TLS fails ({error.reason or error}): check schema_registry.url",
                misconfigured=True,
            ) from None
        except (InvalidURL, ValueError):
            raise Unreachable("check schema_registry.url", misconfigured=True) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(reason) from None
        if len(answer.body) > MAX_ANSWER_BYTES:
            text = f"the answer has more than {MAX_ANSWER_BYTES} bytes"
            if answer.status == 200 and answer.body.startswith(b"{"):
                # Another time it will be no smaller.
                raise BadSchema(text)
            raise Unavailable(text)
        return document(answer.status, answer.body)
