"""All attacks: importing this package registers them."""

from bench.attacks.attack import ATTACKS
from bench.attacks.classes import (
    closing,
    history,
    operators,
    proxies,
    reading,
    requests,
    resets,
    sockets,
    tls,
)

__all__ = [
    "ATTACKS",
    "closing",
    "history",
    "operators",
    "proxies",
    "reading",
    "requests",
    "resets",
    "sockets",
    "tls",
]
