"""A schema registry on a local port: the part of Confluent's REST API that readers use."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

# How long it takes to end.
_POLL_SECONDS: Final = 0.02
_BY_ID: Final = re.compile(r"/schemas/(ids|guids)/([^/?]+)")
_BY_VERSION: Final = re.compile(r"/subjects/([^/]+)/versions/([^/?]+)")
_NOT_FOUND: Final = {"subject": 40401, "version": 40402, "schema": 40403}


class Registered(NamedTuple):
    """One version of a subject."""

    schema_id: int
    guid: str
    subject: str
    version: int
    answer: dict[str, Any]


class SchemaRegistry:
    """Answers at `url` what has been registered.

    requests: the paths that were asked for. down: answer 503. password: of the user `energyws`, who
    then has to ask. unseen: ids that a replica has yet to learn of, and so answers 404 for. quick:
    while it is cleared, answers wait. wrong: answer 404 to all, as another server. guids: False:
    no schemas by GUID, as in most registries.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.down = False
        self.wrong = False
        self.guids = True
        self.password: str | None = None
        self.unseen: set[int] = set()
        self.quick = threading.Event()
        self.quick.set()
        self._registered: list[Registered] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.requests.append(self.path)
                registry.quick.wait()
                status, answer = registry.answer(self.path, self.headers.get("Authorization"))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(ConnectionError):
                    # Who asked may have given up.
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.quick.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def register(
        self, subject: str, schema: object, kind: str = "AVRO", *references: tuple[str, Registered]
    ) -> Registered:
        """A new version of a subject. schema: its text, or what is written as JSON.

        references: by which name the schema refers to which other one.
        """
        schema_id = len(self._registered) + 1
        version = 1 + sum(each.subject == subject for each in self._registered)
        answer: dict[str, Any] = {
            "schema": schema if isinstance(schema, str) else json.dumps(schema)
        }
        # As the real one: Avro is not mentioned.
        if kind != "AVRO":
            answer["schemaType"] = kind
        if references:
            answer["references"] = [
                {"name": name, "subject": each.subject, "version": each.version}
                for name, each in references
            ]
        guid = str(UUID(int=schema_id << 64 | 7))
        made = Registered(schema_id, guid, subject, version, answer)
        self._registered.append(made)
        return made

    def answer(self, path: str, authorization: str | None) -> tuple[int, object]:
        """The status and the body of the answer to a GET."""
        if self.down:
            return 503, {"error_code": 50002, "message": "down"}
        if self.wrong:
            return 404, {"message": "no such page"}
        if self.password is not None:
            wanted = f"Basic {b64encode(f'energyws:{self.password}'.encode()).decode()}"
            if authorization != wanted:
                return 401, {"error_code": 401, "message": "Unauthorized"}
        found = _BY_ID.match(path)
        if found and (self.guids or found[1] == "ids"):
            return self._by_id(found[1], found[2])
        if found := _BY_VERSION.match(path):
            return self._by_version(found[1], found[2])
        return 404, {"message": "HTTP 404 Not Found"}

    def _by_id(self, by: str, wanted: str) -> tuple[int, object]:
        for each in self._registered:
            mine = str(each.schema_id) if by == "ids" else each.guid
            if mine == wanted and each.schema_id not in self.unseen:
                return 200, each.answer
        return _missing("schema")

    def _by_version(self, subject: str, version: str) -> tuple[int, object]:
        versions = [each for each in self._registered if each.subject == subject]
        if not versions:
            return _missing("subject")
        for each in versions[-1:] if version == "latest" else versions:
            if version in ("latest", str(each.version)):
                told = {"subject": subject, "version": each.version, "id": each.schema_id}
                return 200, {**told, **each.answer}
        return _missing("version")


def _missing(what: str) -> tuple[int, object]:
    return 404, {"error_code": _NOT_FOUND[what], "message": f"{what} not found"}
