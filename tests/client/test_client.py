"""The client against a server that follows a script."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.server import ServerConnection

from energyws.client import Client, Gap, Message, Reading, Refused, State
from energyws.client.backoff import BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS, Backoff
from tests.client.script import Script, data, say, subscribed, wait


def collect(client: Client, count: int) -> list[Message]:
    """The first `count` messages."""

    async def main() -> list[Message]:
        found: list[Message] = []
        async with aclosing(client.messages()) as messages:
            async for message in messages:
                found.append(message)
                if len(found) == count:
                    break
        return found

    return asyncio.run(asyncio.wait_for(main(), 20))


def numbers(messages: list[Message]) -> list[object]:
    return [message.data["n"] for message in messages if isinstance(message, Reading)]


def test_resumes_after_the_last_reading_it_gave_out() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0.0")
        data(connection, 0, "aa-1.0")
        data(connection, 1, "aa-1.1")
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-1.1", recovered=True, replayed=1)
        data(connection, 2, "aa-2.1")
        wait(connection, request)

    with Script(first, second) as script:
        client = Client(script.url, token="t")
        assert numbers(collect(client, 3)) == [0, 1, 2]
    assert "resume" not in script.requests[0]
    assert script.requests[1]["resume"] == {"energy": "aa-1.1"}
    assert client.positions == {"energy": "aa-2.1"}


def test_resumes_before_the_first_reading_too() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-7.7")
        connection.close(1011)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-7.7", recovered=True, replayed=1)
        data(connection, 1, "aa-8.7")
        wait(connection, request)

    with Script(first, second) as script:
        collect(Client(script.url), 1)
    assert script.requests[1]["resume"] == {"energy": "aa-7.7"}


def test_position_is_merged_over_replicas_that_interleave_differently() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0.0")
        data(connection, 0, "aa-5.0")
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        # This replica is behind in partition 0, and ahead in partition 1.
        subscribed(connection, "aa-5.0", recovered=True, replayed=1)
        data(connection, 1, "aa-2.3")
        wait(connection, request)

    with Script(first, second) as script:
        client = Client(script.url)
        collect(client, 2)
    assert client.positions == {"energy": "aa-5.3"}


def test_gaps_stand_where_readings_are_missing() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(
            connection, "bb-9", recovered=False, replayed=1, reason="EPOCH_CHANGED", earliest="bb-9"
        )
        data(connection, 1, "bb-10")
        say(
            connection,
            type="lagged",
            stream="energy",
            missed=4,
            **{"from": "bb-10", "to": "bb-14"},
            reason="LAGGED",
        )
        data(connection, 6, "bb-15")
        wait(connection, request)

    with Script(scene) as script:
        client = Client(script.url, resume={"energy": "aa-100"})
        messages = collect(client, 4)
    assert [type(message) for message in messages] == [Gap, Reading, Gap, Reading]
    assert messages[0] == Gap("energy", None, "EPOCH_CHANGED", "bb-9", None, "bb-9")
    assert messages[2] == Gap("energy", 4, "LAGGED", "bb-14")
    assert client.positions == {"energy": "bb-15"}


def test_last_is_asked_once_and_positions_afterwards() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-3", recovered=True, replayed=1)
        data(connection, 3, "aa-4")
        connection.close(1012)

    with Script(first, wait) as script:
        client = Client(script.url, last=1)
        assert numbers(collect(client, 1)) == [3]
        assert script.requests[0]["last"] == 1
        assert "resume" not in script.requests[0]


def test_since_is_asked_once_and_what_it_lacks_is_a_gap() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(
            connection,
            "aa-5.0",
            recovered=False,
            replayed=0,
            reason="RETENTION",
            earliest="aa-5.0",
            missing=[5, 0],
        )
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-5.0", recovered=True, replayed=0)
        data(connection, 1, "aa-6.0")
        wait(connection, request)

    with Script(first, second) as script:
        client = Client(script.url, since="2026-01-01T00:00:00Z")
        gap, reading = collect(client, 2)
    assert gap == Gap("energy", 5, "RETENTION", "aa-5.0", (5, 0), "aa-5.0")
    assert numbers([reading]) == [1]
    assert script.requests[0]["since"] == "2026-01-01T00:00:00Z"
    assert "since" not in script.requests[1]
    assert script.requests[1]["resume"] == {"energy": "aa-5.0"}


def test_token_that_expires_soon_is_renewed_in_place() -> None:
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


def test_expired_token_is_replaced_where_there_may_be_a_fresh_one() -> None:
    def expired(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.close(4401, "token expired")

    def fresh(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 0, "aa-1")
        wait(connection, request)

    tokens = iter(["old", "new"])
    with Script(expired, fresh) as script:
        assert numbers(collect(Client(script.url, token=lambda: next(tokens)), 1)) == [0]
    assert script.tokens == ["Bearer old", "Bearer new"]


def test_comes_back_after_as_long_as_the_server_says() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="reconnect", after_ms=700)
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0", recovered=True, replayed=1)
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(first, second) as script:
        collect(Client(script.url), 1)
        assert script.times[1] - script.times[0] >= 0.7


@pytest.mark.parametrize("code", [4401, 4403, 1002, 1009])
def test_close_that_says_never_again_is_raised(code: int) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.close(code, "because")

    with Script(scene) as script, pytest.raises(Refused, match="because"):
        collect(Client(script.url), 1)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000, 4008, 4503])
def test_close_that_may_pass_is_tried_again(code: int) -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.close(code)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(first, second) as script:
        assert numbers(collect(Client(script.url), 1)) == [1]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusal_that_will_not_change_is_raised_with_its_message(status: int) -> None:
    body = b'{"type":"error","message":"Invalid token","code":"UNAUTHORIZED"}'
    with (
        Script(wait, refuse=[(status, body)]) as script,
        pytest.raises(Refused, match=f"HTTP {status}: Invalid token"),
    ):
        collect(Client(script.url, token="secret-token"), 1)


def test_refusal_for_now_is_tried_again_with_a_fresh_token() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    fresh = iter("abc")
    with Script(scene, refuse=[(503, b""), (503, b"{}")]) as script:
        collect(Client(script.url, token=lambda: next(fresh)), 1)
    assert script.tokens == ["Bearer a", "Bearer b", "Bearer c"]


def test_token_may_be_awaited() -> None:
    async def fetch() -> str:
        return "fetched"

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(scene) as script:
        collect(Client(script.url, token=fetch), 1)
    assert script.tokens == ["Bearer fetched"]


@pytest.mark.parametrize("code", ["UNKNOWN_STREAM", "FORBIDDEN_STREAM"])
def test_subscription_that_cannot_work_is_raised(code: str) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        say(connection, type="error", message="no", code=code)
        wait(connection, request)

    with Script(scene) as script, pytest.raises(Refused, match=code):
        collect(Client(script.url), 1)


def test_other_errors_and_unknown_messages_are_passed_over() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        say(connection, type="error", message="soon", code="TOKEN_EXPIRING")
        say(connection, type="news", of="tomorrow")
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(scene) as script:
        assert numbers(collect(Client(script.url), 1)) == [1]


def test_nobody_listening_is_tried_again() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(scene) as script:
        url = script.url
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(anext(Client(url).messages()), 1.0))


def test_half_open_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energyws.client.connection.SILENCE_SECONDS", 0.2)
    heard: list[object] = []

    def dead(connection: ServerConnection, request: dict[str, Any]) -> None:
        while True:
            heard.append(orjson.loads(connection.recv()))

    def alive(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(dead, alive) as script:
        assert numbers(collect(Client(script.url), 1)) == [1]
    assert heard == [{"type": "ping"}]


def test_url_must_be_a_websocket_one_and_its_token_stays_out_of_the_error() -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL") as refused:
        Client("http://127.0.0.1/ws/energy?token=CANARY")
    assert "CANARY" not in str(refused.value)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_backoff_grows_within_its_bounds(randoms: list[float]) -> None:
    draws = iter(randoms)
    backoff = Backoff(lambda: next(draws))
    for attempt, random in enumerate(randoms):
        bound = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**attempt)
        assert backoff.next_seconds() == pytest.approx(random * bound)


def test_message_that_is_too_large_ends_the_iteration_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("energyws.client.connection.MAX_MESSAGE_BYTES", 1_000)

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="data", stream="energy", data={"pad": "x" * 1_000}, id="aa-1")
        wait(connection, request)

    with Script(scene) as script, pytest.raises(Refused, match="a message of more than") as refused:
        collect(Client(script.url), 1)
    assert refused.value.close == 1009
    assert len(script.requests) == 1


def test_record_of_many_megabytes_is_delivered() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        pad = "x" * (15 << 20)
        for number in range(3):
            at = f"aa-{number + 1}"
            say(connection, type="data", stream="energy", timestamp="", data={"p": pad}, id=at)
        data(connection, 7, "aa-4")
        wait(connection, request)

    with Script(scene) as script:
        messages = collect(Client(script.url), 4)
    assert numbers(messages[3:]) == [7]


def test_application_that_is_slow_misses_nothing_and_leaves_the_socket_unread() -> None:
    sent: list[int] = []

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        pad = "x" * 100_000
        for number in range(600):
            at = f"aa-{number + 1}"
            record = {"n": number, "pad": pad}
            say(connection, type="data", stream="energy", timestamp="", data=record, id=at)
            sent.append(number)
        wait(connection, request)

    async def main(client: Client) -> list[int]:
        found = []
        async with client:
            async for message in client:
                assert isinstance(message, Reading)
                if not found:
                    # Until the server has stood still for a while: nothing else shows it.
                    before = -1
                    while len(sent) != before:
                        before = len(sent)
                        await asyncio.sleep(0.5)
                    assert before < 600
                found.append(message.data["n"])
                if len(found) == 600:
                    return found
        return found

    with Script(scene) as script:
        client = Client(script.url)
        assert asyncio.run(asyncio.wait_for(main(client), 30)) == [*range(600)]
    assert client.connects == 1


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


@pytest.mark.parametrize("situation", ["asking for a token", "connecting", "live", "waiting"])
def test_close_ends_the_iteration_for_good(situation: str) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        wait(connection, request)

    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async def main(client: Client) -> list[Message]:
        reading = asyncio.create_task(_all(client))
        wanted = "connecting" if situation == "asking for a token" else situation
        while client.state != wanted:
            await asyncio.sleep(0)
        await client.close()
        await client.close()
        found = await reading
        assert await _all(client) == []
        assert client.state == "idle"
        return found

    async def _all(client: Client) -> list[Message]:
        return [message async for message in client]

    with Script(scene) as script, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        urls = {
            "connecting": f"ws://127.0.0.1:{deaf.getsockname()[1]}/",
            "waiting": "ws://127.0.0.1:1/",
        }
        token = never if situation == "asking for a token" else None
        client = Client(urls.get(situation, script.url), token=token)
        assert asyncio.run(asyncio.wait_for(main(client), 20)) == []


def test_another_loop_goes_on_where_the_first_was_left() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        first = int(request.get("resume", {"energy": "aa-0"})["energy"].removeprefix("aa-"))
        subscribed(connection, f"aa-{first}", recovered=True, replayed=0)
        for number in range(first, 10):
            data(connection, number, f"aa-{number + 1}")
        wait(connection, request)

    async def main(client: Client) -> list[int]:
        found = []
        async with client:
            for _ in range(3):
                async for message in client:
                    assert isinstance(message, Reading)
                    found.append(message.data["n"])
                    if len(found) % 3 == 0:
                        break
        return found

    with Script(scene) as script:
        assert asyncio.run(asyncio.wait_for(main(Client(script.url)), 20)) == [*range(9)]


def test_callback_that_raises_tears_nothing_apart() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    raised: list[object] = []

    def on_state(state: State, why: str) -> None:
        raise LookupError(state)

    async def main() -> list[Message]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        async with Client(script.url, on_state=on_state) as client:
            return [await anext(aiter(client))]

    with Script(scene) as script:
        assert numbers(asyncio.run(asyncio.wait_for(main(), 20))) == [1]
    assert [str(each) for each in raised[:2]] == ["connecting", "live"]


@pytest.mark.parametrize("token", ["CANARY with spaces", "CANARY\r\nX: y", "CANARY\n", "", "ä"])
def test_token_that_is_none_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(Refused, match="the token is not a JWT") as refused:
        collect(Client("ws://127.0.0.1:1/", token=token), 1)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:CANARY@127.0.0.1/ws/energy?token=CANARY",
        "127.0.0.1:8080/ws/energy",
        "ws://127.0.0.1:99999/",
        "ws://127.0.0.1:port/",
        "ws:///ws/energy",
        "ws://[::1/",
        "ws://127.0.0.1/#CANARY",
        "ws://127.0.0.1/a b",
        "ws://127.0.0.1/\r\nX: y",
    ],
)
def test_url_that_is_none_is_refused_without_what_may_be_secret(url: str) -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL") as refused:
        Client(url)
    assert "CANARY" not in str(refused.value)
    assert "\n" not in str(refused.value)
