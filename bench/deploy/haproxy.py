"""HAProxy in front of replicas."""

from __future__ import annotations

import math
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.faults.service import BreakableService, free_port

# As in config/proxies/haproxy.cfg, which gives the reasons.
_CONFIG: Final = """\
defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout check 5s
  retries 3
  option redispatch
listen energyws
  bind 127.0.0.1:{port}
  maxconn {connections}
  balance leastconn
  option httpchk GET /ready
"""


@contextmanager
def haproxy(directory: Path, services: Sequence[BreakableService], clients: int) -> Iterator[int]:
    """HAProxy with health checks on the services' /ready; yields the port that it listens on.

    Each client uses two descriptors; if one process cannot have enough, several share the port
    (SO_REUSEPORT).
    """
    port = free_port()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    config = _CONFIG.format(port=port, connections=descriptors // 3)
    for number, service in enumerate(services):
        config += (
            f"  server replica-{number} 127.0.0.1:{service.port} check port {service.admin_port}"
            " inter 1s fastinter 250ms fall 2 rise 1\n"
        )
    path = directory / "haproxy.cfg"
    path.write_text(config)
    with ExitStack() as stack:
        # A margin for newcomers and for clients that reconnect before their old connection is gone.
        for _ in range(math.ceil(3 * clients / descriptors)):
            command = ["haproxy", "-db", "-f", str(path)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        # Until it has checked each replica once.
        time.sleep(1.0)
        yield port
