"""Who may connect, and what one client may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from energyws.settings.types import (
    KIB,
    MAX_WORKERS,
    MIB,
    STRICT,
    Count,
    Port,
    PositiveSeconds,
    Seconds,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of a PEM certificate chain and of its private key.

    session_tickets: whether clients may resume TLS sessions.
    """

    __pydantic_config__ = STRICT

    cert: Text
    key: Text
    session_tickets: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The public listener, and the limits of one client. Port 0 picks a free port.

    max_connections: of the whole service, over all workers. compression: permessage-deflate with
    clients that offer it. io_uring: how workers send live frames to clients without TLS; auto: by
    io_uring where the machine allows it. dashboard: whether workers serve the page at `/`.
    drain_delay_seconds: the time between a stop signal and the drain, in which the service only
    reports that it is not ready. max_connection_age_seconds: the age, give or take a tenth, at
    which a client is asked to reconnect. position_seconds: how long a client that gets some keys
    of a stream hears nothing of where it is. send_buffer_bytes: SO_SNDBUF of each client's socket;
    None: the kernel chooses. shed_at_memory_percent: of the memory limit of the service's control
    group, where workers refuse new clients; halfway from there to the limit, they close slow ones.
    """

    __pydantic_config__ = STRICT

    host: Text = "0.0.0.0"
    port: Port = 8080
    max_connections: Count = 10_000
    workers: Annotated[int, Ge(1), Le(MAX_WORKERS)] | Literal["auto"] = "auto"
    tls: Tls | None = None
    compression: bool = True
    io_uring: Literal["auto", "off"] = "auto"
    dashboard: bool = False
    backlog: Count = 4096
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    proxy_protocol: Literal["off", "optional", "required"] = "off"
    handshake_timeout_seconds: PositiveSeconds = 5.0
    drain_delay_seconds: Seconds = 0.0
    drain_seconds: Seconds = 10.0
    ping_interval_seconds: PositiveSeconds = 20.0
    pong_timeout_seconds: PositiveSeconds = 20.0
    position_seconds: PositiveSeconds = 20.0
    close_timeout_seconds: PositiveSeconds = 3.0
    tcp_user_timeout_seconds: PositiveSeconds = 30.0
    max_connection_age_seconds: PositiveSeconds | None = None
    max_message_bytes: Annotated[int, Ge(256), Le(64 * KIB)] = 16 * KIB
    messages_per_second: Annotated[float, Gt(0)] = 50.0
    write_buffer_bytes: Annotated[int, Ge(4 * KIB), Le(16 * MIB)] = 64 * KIB
    send_buffer_bytes: Annotated[int, Ge(16 * KIB), Le(16 * MIB)] | None = 208 * KIB
    shed_at_memory_percent: Annotated[float, Ge(50), Le(100)] | None = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one address, subject or token may take, over all workers.

    None: as much as all. connections_per_address, connections_per_subject, connections_per_token:
    clients that are connected. pending_connections, pending_per_address: connections that are no
    clients yet, or never will be; pending_connections None: server.max_connections.
    replay_bytes_per_client_per_second: of one connection; HTTP requests of one subject count as
    one. keys_per_subscription: that a client asks for; a token may have more. The others are of one
    address or subject.
    An address of IPv6 stands for its network of 64 bits.
    """

    __pydantic_config__ = STRICT

    connections_per_address: Count | None = None
    connections_per_subject: Count | None = None
    connections_per_token: Count | None = None
    pending_connections: Count | None = None
    pending_per_address: Count | None = None
    new_connections_per_address_per_second: Count | None = None
    messages_per_subject_per_second: Count | None = None
    replay_bytes_per_client_per_second: Annotated[int, Ge(64 * KIB)] | None = 32 * MIB
    replay_bytes_per_subject_per_second: Annotated[int, Ge(64 * KIB)] | None = None
    keys_per_subscription: Count | None = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A trusted issuer: tokens whose `iss` equals `issuer` are checked with its keys only."""

    __pydantic_config__ = STRICT

    name: Text
    issuer: Text
    jwks_url: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who may connect. With JWKS (`issuers`, or `jwks_url` + `issuer`) the secret is not used.

    jwt_secret_file: wins over jwt_secret, which has the file's secret once loaded.
    jwt_secret_previous, jwt_secret_previous_file: the secret before it, whose tokens are valid too;
    empty: there is none.
    jwt_secret_issuer: the `iss` of tokens signed with a secret. jwt_secret_beside_issuers: the
    secrets are used with JWKS, too, for tokens whose `iss` is none of the issuers.
    required_claims: claims, and for each the values of which the token must have one.
    denied_file: tokens that are valid no more (see energyws.auth.denied).
    streams_claim: the claim that lists the streams that a token allows. keys_claim: the claim that
    names the keys that a token allows (see energyws.auth.key_rights). scope_prefix: the prefix of
    scopes that name a stream; None: scopes allow nothing.
    max_token_seconds: how long a connection may last with one token. refuse_long_tokens: refuse
    tokens that are valid for longer.
    jwks_max_stale_seconds: how long keys count after a refresh was due that has not succeeded.
    """

    __pydantic_config__ = STRICT

    jwt_secret: Text | None = field(default=None, repr=False)
    jwt_secret_file: Text | None = None
    jwt_secret_previous: str | None = field(default=None, repr=False)
    jwt_secret_previous_file: Text | None = None
    jwt_secret_issuer: Text | None = None
    jwt_secret_beside_issuers: bool = False
    allow_weak_secret: bool = False
    jwks_url: Text | None = None
    issuer: Text | None = None
    issuers: tuple[Issuer, ...] = ()
    audience: Text | None = None
    required_claims: dict[Text, tuple[str | int | bool, ...]] = field(default_factory=dict)
    denied_file: Text | None = None
    streams_claim: Text = "streams"
    keys_claim: Text = "keys"
    scope_prefix: str | None = None
    leeway_seconds: Annotated[float, Ge(0), Le(300)] = 30.0
    max_token_seconds: PositiveSeconds = 366 * 86400.0
    refuse_long_tokens: bool = False
    expiry_notice_seconds: Seconds = 60.0
    jwks_refresh_seconds: Annotated[float, Ge(1), Le(7 * 86400)] = 300.0
    jwks_timeout_seconds: PositiveSeconds = 5.0
    jwks_max_stale_seconds: PositiveSeconds = 86400.0
    allow_http_jwks: bool = False
    reject: Literal["auto", "http", "message"] = "auto"
