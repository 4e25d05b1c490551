"""aiohttp: a set of open connections and `send_str` to each in turn, as in its demos."""

from __future__ import annotations

from aiohttp import WSMsgType, web

from bench.peers import feed

_connections: set[web.WebSocketResponse] = set()


async def _handle(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse(compress=False)
    await response.prepare(request)
    _connections.add(response)
    try:
        await response.send_str(feed.READY)
        async for message in response:
            if message.type is WSMsgType.ERROR:
                break
    finally:
        _connections.discard(response)
    return response


async def _broadcast(message: str) -> None:
    for response in list(_connections):
        if not response.closed:
            await response.send_str(message)


async def _main() -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", _handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=feed.tls(), backlog=feed.BACKLOG)
    await site.start()
    await feed.feed(runner.addresses[0][1], _broadcast)


if __name__ == "__main__":
    feed.run(_main)
