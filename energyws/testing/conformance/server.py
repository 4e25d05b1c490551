"""Judges a server: plays the client's part of a case."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import orjson

from energyws.testing.conformance.patterns import fill, mismatch, shown
from energyws.testing.conformance.table import Result, ServerCase, result
from energyws.testing.conformance.target import Fault, Target, events, json_of
from energyws.testing.conformance.wire import BINARY, PING, Event, Wire


def judge(case: ServerCase, target: Target, missing: dict[str, str]) -> Result:
    """Play a case. missing: the features that the server does not have, see `features`."""
    for feature in case.needs:
        if feature in missing:
            return Result(case, "skip", missing[feature])
    player = _Player(target)
    fault = None
    try:
        for number, step in enumerate(case.steps, 1):
            try:
                player.play(step)
            except TimeoutError:
                fault = f"step {number}, {shown(step)}: nothing within {target.seconds:g} s"
                break
            except (Fault, OSError, HTTPException) as error:
                fault = f"step {number}, {shown(step)}: {error}"
                break
    finally:
        player.end()
    return result(case, fault, player.seen)


class _Player:
    """seen: every message of the server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        path = urlsplit(target.url).path
        self._known: dict[str, Any] = {
            "stream": target.stream,
            "token": target.token,
            "path": path,
        }
        self._wire: Wire | None = None
        self._status = 0
        self._answer: dict[str, str] = {}
        self.seen: list[Any] = []

    def end(self) -> None:
        if self._wire is not None:
            self._wire.shut()

    def play(self, step: dict[str, Any]) -> None:
        """Play one step; raises Fault, OSError and HTTPException."""
        match step:
            case {"connect": options}:
                self._connect(**fill(options, self._known))
            case {"refused": wanted}:
                self._refused(**wanted)
            case {"request": request, "answer": answer}:
                self._request(answer, **fill(request, self._known))
            case {"send": message, **how}:
                self._open.message(orjson.dumps(fill(message, self._known)), **how)
            case {"text": text, **how}:
                self._open.message(fill(text, self._known).encode(), **how)
            case {"binary": message}:
                raw = orjson.dumps(fill(message, self._known))
                self._open.message(raw, opcode=BINARY)
            case {"frame": frame}:
                self._open.frame(**{**frame, "payload": bytes.fromhex(frame["payload"])})
            case {"letters": count}:
                self._open.message(b"x" * count)
            case {"expect": pattern}:
                self._check(pattern, self._message())
            case {"until": pattern}:
                while mismatch(pattern, self._message(), self._known) is not None:
                    pass
            case {"ping": text}:
                self._open.frame(PING, text.encode())
                self._check(text, self._until("pong").payload.decode(errors="replace"))
            case {"close": code}:
                self._open.close(code)
            case {"closed": code}:
                self._check(code, self._until("close").code)
            case _:
                raise AssertionError(step)

    @property
    def _open(self) -> Wire:
        if self._wire is None or self._status != 101:
            raise Fault(f"the handshake was answered with {self._status}")
        return self._wire

    def _connect(
        self,
        via: str = "header",
        query: str = "",
        headers: dict[str, str] | None = None,
        answer: dict[str, str] | None = None,
    ) -> None:
        self.end()
        fields, more = self._target.credentials(via)
        query = "&".join(filter(None, (query, more)))
        self._wire, self._status, found = self._target.open(query, fields | (headers or {}))
        self._answer = found
        for name, text in (answer or {}).items():
            self._contains(name, text, found.get(name))

    def _refused(self, status: int, code: str, close: int) -> None:
        assert self._wire is not None
        if self._status == 101:
            self._check({"type": {"<one of>": ["error", "notice"]}, "code": code}, self._message())
            self._check(close, self._until("close").code)
            return
        self._check(status, self._status)
        size = self._answer.get("content-length")
        body = self._wire.body(None if size is None else int(size), self._target.deadline())
        self._check({"type": "error", "code": code, "message": "<string>"}, json_of(body))

    def _request(
        self,
        answer: dict[str, Any],
        path: str,
        method: str = "GET",
        via: str = "header",
        headers: dict[str, str] | None = None,
    ) -> None:
        fields, query = self._target.credentials(via)
        if query:
            path = f"{path}{'&' if urlsplit(path).query else '?'}{query}"
        response = self._target.request(method, path, fields | (headers or {}))
        try:
            self._check(answer["status"], response.status)
            for name, text in answer.get("headers", {}).items():
                self._contains(name, fill(text, self._known), response.headers.get(name))
            match answer:
                case {"text": text}:
                    self._check(text, response.read().decode(errors="replace"))
                case {"json": pattern}:
                    self._check(pattern, self._saw(json_of(response.read())))
                case {"each": each, "end": end}:
                    lines = [self._saw(json_of(line)) for line in response]
                    for line in lines[:-1]:
                        self._check(each, line)
                    self._check(end, lines[-1] if lines else None)
                case {"events": patterns}:
                    stream = events(response)
                    for pattern in patterns:
                        event = next(stream, None)
                        self._saw((event or {}).get("data"))
                        self._check(pattern, event)
        finally:
            response.close()

    def _message(self) -> Any:
        event = self._open.receive(self._target.deadline())
        if event.kind == "close":
            raise Fault(
                f"closed with {event.code} {event.payload.decode(errors='replace')}".rstrip()
            )
        if event.kind != "message":
            raise Fault("the connection ended without a close frame")
        return self._saw(json_of(event.payload))

    def _until(self, kind: str) -> Event:
        deadline = self._target.deadline()
        while (event := self._open.receive(deadline)).kind != kind:
            if event.kind in ("close", "end"):
                text = f"closed with {event.code}" if event.code else "ended without a close frame"
                raise Fault(f"the connection was {text}")
        return event

    def _saw(self, message: Any) -> Any:
        self.seen.append(message)
        return message

    def _check(self, pattern: Any, value: Any) -> None:
        if reason := mismatch(pattern, value, self._known):
            raise Fault(reason)

    def _contains(self, name: str, text: str, value: str | None) -> None:
        if value is None or text.lower() not in value.lower():
            raise Fault(f"header {name}: wanted {text}, got {value}")
