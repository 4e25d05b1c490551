"""picows as in its README: a listener per connection, and `transport.send` to each.

energyws is built on the same library but does not use `send`: the difference in cost is the saving
of prebuilt frames and joined writes.
"""

from __future__ import annotations

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.peers import feed

_transports: set[WSTransport] = set()


class _Listener(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        _transports.add(transport)
        transport.send(WSMsgType.TEXT, feed.READY.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        _transports.discard(transport)


def _listener(request: WSUpgradeRequest) -> WSListener:
    return _Listener()


async def _broadcast(message: str) -> None:
    payload = message.encode()
    for transport in _transports:
        transport.send(WSMsgType.TEXT, payload)


async def _main() -> None:
    server = await ws_create_server(_listener, "127.0.0.1", 0, ssl=feed.tls(), backlog=feed.BACKLOG)
    await feed.feed(server.sockets[0].getsockname()[1], _broadcast)


if __name__ == "__main__":
    feed.run(_main)
