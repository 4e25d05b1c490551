"""A token for each connection, and its renewal on an open connection."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson
import pytest
from websockets.sync.server import ServerConnection

from energyws.client import Client, Refused
from energyws.client.failure import Failure, NoToken
from energyws.client.tokens import Tokens
from tests.client.script import Script, collect, data, numbers, one_reading, say, subscribed, wait


def test_expiring_token_is_renewed_on_its_connection() -> None:
    renewed: list[dict[str, Any]] = []

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="error", code="TOKEN_EXPIRING", message="soon")
        renewed.append(orjson.loads(connection.recv()))
        data(connection, 0, "aa-1")
        wait(connection, request)

    tokens = iter(["first", "second"])
    with Script(scene) as script:
        client = Client(script.url, token=lambda: next(tokens))
        assert numbers(collect(client, 1)) == [0]
    assert renewed == [{"type": "auth", "token": "second"}]


def test_next_connection_gets_a_fresh_token_after_one_expired() -> None:
    def expired(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.close(4401, "token expired")

    tokens = iter(["old", "new"])
    with Script(expired, one_reading) as script:
        assert numbers(collect(Client(script.url, token=lambda: next(tokens)), 1)) == [1]
    assert script.tokens == ["Bearer old", "Bearer new"]


def test_every_attempt_gets_a_fresh_token() -> None:
    fresh = iter("abc")
    with Script(one_reading, refuse=[(503, b""), (503, b"{}")]) as script:
        collect(Client(script.url, token=lambda: next(fresh)), 1)
    assert script.tokens == ["Bearer a", "Bearer b", "Bearer c"]


def test_token_function_may_be_a_coroutine() -> None:
    async def fetch() -> str:
        return "fetched"

    with Script(one_reading) as script:
        collect(Client(script.url, token=fetch), 1)
    assert script.tokens == ["Bearer fetched"]


def test_token_is_renewed_while_the_application_is_busy() -> None:
    renewed = threading.Event()

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 0, "aa-1")
        data(connection, 1, "aa-2")
        say(connection, type="notice", code="TOKEN_EXPIRING", message="soon")
        assert orjson.loads(connection.recv()) == {"type": "auth", "token": "second"}
        renewed.set()
        wait(connection, request)

    async def main(client: Client) -> None:
        async with client:
            async for _ in client:
                while not renewed.is_set():
                    await asyncio.sleep(0.01)
                return

    tokens = iter(["first", "second"])
    with Script(scene) as script:
        client = Client(script.url, token=lambda: next(tokens))
        asyncio.run(asyncio.wait_for(main(client), 20))


def test_readings_do_not_wait_for_a_renewal() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="notice", code="TOKEN_EXPIRING", message="soon")
        data(connection, 0, "aa-1")
        wait(connection, request)

    calls = []

    async def give() -> str:
        calls.append(1)
        if len(calls) > 1:
            await asyncio.Event().wait()
        return "token"

    with Script(scene) as script:
        assert numbers(collect(Client(script.url, token=give), 1)) == [0]


@pytest.mark.parametrize("token", ["CANARY with spaces", "CANARY\r\nX: y", "CANARY\n", "", "ä"])
def test_invalid_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(Refused, match="the token is not a JWT") as refused:
        collect(Client("ws://127.0.0.1:1/", token=token), 1)
    assert "CANARY" not in str(refused.value)


class FakeConnection:
    """The parts of a Connection that a renewal uses."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.renewal: asyncio.Task[None] | None = None
        self.awaits_auth = False
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


def renew(tokens: Tokens) -> FakeConnection:
    """A connection after one renewal."""

    async def main() -> FakeConnection:
        connection: Any = FakeConnection()
        tokens.renew(connection)
        await asyncio.wait_for(connection.renewal, 20)
        return connection

    return asyncio.run(main())


def test_failed_renewal_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energyws.client.backoff.BACKOFF_FIRST_SECONDS", 0.0)
    given = iter([OSError("offline"), OSError("offline"), "fresh"])

    def give() -> str:
        token = next(given)
        if isinstance(token, OSError):
            raise token
        return token

    connection = renew(Tokens(give))
    assert connection.sent == [{"type": "auth", "token": "fresh"}]
    assert connection.awaits_auth


def test_refused_renewal_does_not_change_the_connection() -> None:
    def give() -> str:
        raise Refused("logged out")

    assert renew(Tokens(give)).sent == []


def test_fixed_token_is_not_renewed() -> None:
    connection: Any = FakeConnection()
    Tokens("fixed").renew(connection)

    assert connection.renewal is None


def test_failure_of_the_token_function_is_shown_without_a_traceback() -> None:
    def give() -> str:
        raise LookupError("offline")

    with pytest.raises(NoToken, match=r"^no token: LookupError: offline$"):
        asyncio.run(Tokens(give).headers())


def test_client_without_a_token_sends_no_header() -> None:
    assert asyncio.run(Tokens(None).headers()) == {}
