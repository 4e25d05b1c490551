"""Looking up a host name within a deadline; test_keys.py has what an endpoint may do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.client import IncompleteRead
from typing import Any

import pytest

from energyws.testing import eventually
from workers.http_get import Resolver, get


class HungNameServer:
    """A getaddrinfo that does not return before `released` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        self.released.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungNameServer]:
    server = HungNameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.released.set()
    eventually(lambda: not resolvers(), "the lookup ends")


def resolvers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "resolver"]


def test_lookup_without_an_answer_has_a_deadline_and_one_thread(hung: HungNameServer) -> None:
    resolver = Resolver()
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"not resolved within 0\.05 s"):
            get("https://keys.example/jwks", 0.05, resolver, 100)
    assert hung.asked == ["keys.example"]
    (thread,) = resolvers()
    assert thread.daemon
    hung.released.set()
    eventually(lambda: not resolvers(), "the lookup ends")
    assert resolver.addresses("other.example", 443, 5.0)
    assert hung.asked == ["keys.example", "other.example"]


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_name_without_an_address_is_an_error(host: str) -> None:
    with pytest.raises(OSError, match="name"):
        Resolver().addresses(host, 1, 10.0)


def test_each_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (refusing, server.getsockname())
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        reached = threading.Thread(target=_answer, args=(server,))
        reached.start()
        assert get("http://keys.example/", 5.0, Resolver(), 100) == (200, b"{}")
        reached.join()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    with pytest.raises(ConnectionRefusedError):
        get("http://keys.example/", 5.0, Resolver(), 100)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(OSError, match="no address"):
        get("http://keys.example/", 5.0, Resolver(), 100)


def _answer(server: socket.socket) -> None:
    connected, _ = server.accept()
    with connected:
        connected.recv(65536)
        connected.sendall(b"HTTP/1.0 200 OK\r\n\r\n{}")


@pytest.mark.parametrize(
    "head", ["Content-Length: 20", "Transfer-Encoding: chunked", "Content-Length: 8"], ids=str
)
def test_answer_that_breaks_off_is_none(head: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connected, _ = listening.accept()
            with connected:
                connected.recv(4096)
                connected.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n9\r\n[1, 2".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        if head.endswith("8"):
            assert get(url, 5.0, Resolver(), 100).body == b"9\r\n[1, 2"
        else:
            with pytest.raises(IncompleteRead):
                get(url, 5.0, Resolver(), 100)
        thread.join()
