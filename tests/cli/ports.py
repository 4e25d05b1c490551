"""Ports of other programs than energyws."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(answer: bytes | None, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A port that sends this answer to any request and disconnects; its HOST:PORT.

    None: it disconnects immediately.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    connection.settimeout(10)
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                    if answer is not None and connection.recv(4096):
                        connection.sendall(answer)
                except OSError:
                    pass
                finally:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
