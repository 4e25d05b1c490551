"""Clients for tests of the kit: `python client.py BEHAVIOUR URL`.

The behaviours: `good` connects once and prints what it gets; `twice` prints each reading twice;
`silent` prints nothing, and does not end when it is asked to; `leaves` ends at once with status 0.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def main(behaviour: str, url: str) -> None:
    if behaviour == "leaves":
        return
    headers = {"Authorization": f"Bearer {os.environ['WS_TOKEN']}"}
    if behaviour == "silent":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("nothing to say", file=sys.stderr, flush=True)
    with suppress(ConnectionClosed), connect(url, additional_headers=headers) as connection:
        connection.send('{"type":"subscribe","streams":["energy"]}')
        while True:
            message = orjson.loads(connection.recv())
            for _ in range({"good": 1, "twice": 2}.get(behaviour, 0)):
                if message["type"] == "data":
                    print(orjson.dumps({"data": message["data"]}).decode(), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
