"""OpenSSL's session tickets, as far as Python's `ssl` cannot set them.

A ticket is encrypted with keys of the SSL_CTX that made it, which OpenSSL chooses at random, so a
client could resume its session only with one of several workers. The calls are functions of
OpenSSL's public interface. What is not public is where CPython's SSLContext keeps its SSL_CTX:
right behind the head of the object (Modules/_ssl.c, PySSLContext), which aiofastnet relies on, too.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import functools
import ssl
import sys
from collections.abc import Callable
from typing import Final

from energyws.process.ticket_keys import KEYS_BYTES, LIFE_SECONDS

# Of <openssl/ssl.h>, which does not change them within a major version.
_GET_TICKET_KEYS: Final = 58
_SET_TICKET_KEYS: Final = 59
_SET_SESSION_CACHE_MODE: Final = 44
_CACHE_OFF: Final = 0
_CACHE_SERVER: Final = 2
# Nothing uses this number of tickets, so an SSL_CTX that has it is the one looked for.
_MARK: Final = 1_791


class Unusable(Exception):
    """These calls cannot be made safely with this interpreter; the text says why."""


def use_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """Encrypt tickets with these keys from now on, which make them valid for LIFE_SECONDS at most.

    keys: KEYS_BYTES. Tickets made with other ones are not accepted any more. Raises Unusable.
    """
    assert len(keys) == KEYS_BYTES
    library, address = _library(), _address(context)
    library.SSL_CTX_set_timeout(address, int(LIFE_SECONDS))
    if library.SSL_CTX_ctrl(address, _SET_TICKET_KEYS, KEYS_BYTES, keys) != 1:
        raise Unusable("OpenSSL does not take ticket keys")


def forget_sessions(context: ssl.SSLContext) -> None:
    """Keep no sessions, which TLS 1.2 clients without tickets could resume. Raises Unusable."""
    _library().SSL_CTX_ctrl(_address(context), _SET_SESSION_CACHE_MODE, _CACHE_OFF, None)


def check(make: Callable[[], ssl.SSLContext]) -> None:
    """Raise Unusable unless a session that was begun with one context is resumed with another.

    make: makes contexts of a server, all alike.
    """
    keys = bytes(range(KEYS_BYTES))
    servers = [make(), make()]
    for server in servers:
        use_keys(server, keys)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        begun = _shake_hands(client, servers[0], None)
        resumed = _shake_hands(client, servers[1], begun.session)
    except ssl.SSLError as error:
        raise Unusable(f"a handshake to try it failed: {error.reason}") from None
    if begun.session_reused or not resumed.session_reused:
        raise Unusable("OpenSSL does not resume sessions by shared keys")


@functools.cache
def _library() -> ctypes.CDLL:
    """The OpenSSL that `ssl` uses; raises Unusable."""
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info < (3, 15):
        raise Unusable("they are known for CPython 3.11 to 3.14 only")
    if sys.abiflags:
        raise Unusable("free-threaded and debug builds of CPython may have other objects")
    if not ssl.OPENSSL_VERSION.startswith("OpenSSL 3."):
        raise Unusable(f"they are known for OpenSSL 3 only, not for {ssl.OPENSSL_VERSION}")
    if getattr(_ssl, "__file__", None) is None:
        raise Unusable("OpenSSL is a part of the interpreter")
    try:
        library = ctypes.CDLL(_ssl.__file__)
        version = library.OpenSSL_version_num
        library.SSL_CTX_get_num_tickets.restype = ctypes.c_size_t
        library.SSL_CTX_get_num_tickets.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_get_verify_mode.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_set_timeout.restype = ctypes.c_long
        library.SSL_CTX_set_timeout.argtypes = [ctypes.c_void_p, ctypes.c_long]
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [
            *(ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
        ]
    except (OSError, AttributeError):
        raise Unusable("the library of OpenSSL is not found") from None
    version.restype = ctypes.c_ulong
    if version() != ssl.OPENSSL_VERSION_NUMBER:
        raise Unusable("two versions of OpenSSL are loaded")
    _check_layout(library)
    return library


def _check_layout(library: ctypes.CDLL) -> None:
    """Raise Unusable unless what OpenSSL says of a context's SSL_CTX is what Python says of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = _MARK
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_RENEGOTIATION
    address = _address(context)
    found = (
        library.SSL_CTX_get_num_tickets(address),
        library.SSL_CTX_get_options(address),
        library.SSL_CTX_get_verify_mode(address),
        library.SSL_CTX_ctrl(address, _GET_TICKET_KEYS, 0, None),
        # Answers with the mode before it, which Python leaves as it is.
        library.SSL_CTX_ctrl(address, _SET_SESSION_CACHE_MODE, _CACHE_OFF, None),
    )
    verify_peer = 1
    expected = (_MARK, int(context.options), verify_peer, KEYS_BYTES, _CACHE_SERVER)
    if found != expected:
        raise Unusable("CPython keeps its contexts in another way")


def _address(context: ssl.SSLContext) -> int:
    """Of the context's SSL_CTX."""
    address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not address or address % ctypes.alignment(ctypes.c_void_p):
        raise Unusable("CPython keeps its contexts in another way")
    return address


def _shake_hands(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLObject:
    """The client's side after a handshake in memory, in which it has been given a ticket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, session=session)
    # The client speaks twice, and the server twice at most.
    for side in (client, server) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    try:
        # With TLS 1.3 tickets come after the handshake.
        client.read()
    except ssl.SSLWantReadError:
        return client
    raise Unusable("a handshake to try it was followed by data")
