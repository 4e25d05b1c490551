"""The settings of every process: frozen dataclasses, units in the names, defaults in one place.

Only the supervisor validates them (energyws.control.config). Children read them from an inherited
descriptor and rebuild them (energyws.settings_json) without a validation library, which keeps them
small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from annotated_types import Ge, Gt, Le, MinLen

Port = Annotated[int, Ge(0), Le(65535)]
PositiveSeconds = Annotated[float, Gt(0)]
Seconds = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Text = Annotated[str, MinLen(1)]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
MAX_WORKERS: Final = 64
# The largest record that memory, bus, log, compression and the project's own clients can handle.
MAX_RECORD_BYTES: Final = 16 * MIB
# Read by pydantic off each class; a plain dict, so that this module does not import pydantic.
_STRICT: Final = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """The source of the records. `options` are passed to librdkafka (TLS, SASL, tuning)."""

    __pydantic_config__ = _STRICT

    brokers: Text
    topic: Text | None = None
    group_id: Text = "energy-ws"
    auto_offset_reset: Literal["latest", "earliest"] = "latest"
    max_record_bytes: Annotated[int, Ge(1 * KIB), Le(MAX_RECORD_BYTES)] = 1 * MIB
    commit_interval_seconds: PositiveSeconds = 5.0
    metadata_refresh_seconds: PositiveSeconds = 10.0
    options: dict[str, str | int | float | bool] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The newest record of each key, in the consumer's memory, for clients that ask for it.

    max_keys, max_bytes: its bounds; beyond them, the keys that were unchanged for longest go.
    lookback_seconds: how old the records are that are read for it at the start; None: any age, as
    with a compacted topic. wait_seconds: how long a client waits for that.
    """

    __pydantic_config__ = _STRICT

    enabled: bool = False
    max_keys: Count = 100_000
    max_bytes: Annotated[int, Ge(64 * KIB)] = 128 * MIB
    lookback_seconds: PositiveSeconds | None = 3600.0
    wait_seconds: Seconds = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream that clients may subscribe to: all partitions of one topic.

    key: where a record's key is: `record` (Kafka's own), `header:NAME`, or a JSON pointer (RFC
    6901); None: there is none. access: `keyed`: a client gets only keys of its token's keys_claim.
    """

    __pydantic_config__ = _STRICT

    topic: Text
    format: Literal["json", "avro", "json_schema", "protobuf"] = "json"
    key: Text | None = None
    access: Literal["open", "keyed"] = "open"
    snapshot: Snapshot = field(default_factory=Snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRegistry:
    """Where schemas are. password_file: wins over password. ca: PEM; None: the system's."""

    __pydantic_config__ = _STRICT

    url: Text | None = None
    username: Text | None = None
    password: Text | None = field(default=None, repr=False)
    password_file: Text | None = None
    ca: Text | None = None
    timeout_seconds: PositiveSeconds = 5.0
    wait_seconds: PositiveSeconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of a PEM certificate chain and of its private key.

    session_tickets: whether clients may resume TLS sessions.
    """

    __pydantic_config__ = _STRICT

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

    __pydantic_config__ = _STRICT

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

    __pydantic_config__ = _STRICT

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

    __pydantic_config__ = _STRICT

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

    __pydantic_config__ = _STRICT

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


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How far back clients can go: in the ring of each process, and beyond it in Kafka's log.

    max_frames, max_bytes, max_age_seconds: the bounds of a ring, whichever is reached first.
    warm: the number of records per partition that are read from Kafka at start.
    max_messages, max_record_age_seconds: the number and age of records that a client may request.
    max_scan_records: the number of records that are read for a client that requests some keys of
    them. max_concurrent: history requests of one worker that are under way at the same time.
    bytes_per_second: the rate at which the log is sent to the workers, over all workers.
    """

    __pydantic_config__ = _STRICT

    max_frames: Count = 10_000
    max_bytes: Annotated[int, Ge(64 * KIB)] = 16 * MIB
    max_age_seconds: PositiveSeconds = 3600.0
    warm: Annotated[int, Ge(0)] = 1_000
    max_messages: Count = 1_000_000
    max_record_age_seconds: PositiveSeconds | None = None
    max_scan_records: Count = 1_000_000
    max_concurrent: Annotated[int, Ge(1), Le(1024)] = 8
    bytes_per_second: Annotated[int, Ge(64 * KIB)] = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """The ZeroMQ link between the consumer and its workers (ipc, a fresh directory per run).

    high_watermark_frames: the queue for one slow worker; beyond it the publisher drops frames, and
    the worker requests them from the consumer (zguide chapter 5, Clone pattern).
    """

    __pydantic_config__ = _STRICT

    high_watermark_frames: Count = 10_000
    heartbeat_seconds: PositiveSeconds = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """When a child counts as hung, and when its crashes count as a loop.

    hang_seconds: a child is killed after this time without a heartbeat and without CPU time.
    starved_seconds: a child is killed after this time without a heartbeat, busy or not.
    rebalance_seconds: how often workers with more than their share of clients shed some.
    core_dumps: whether crashes may write core dumps, which have secrets.
    """

    __pydantic_config__ = _STRICT

    hang_seconds: PositiveSeconds = 5.0
    starved_seconds: PositiveSeconds = 60.0
    crash_loop_count: Count = 5
    crash_loop_seconds: PositiveSeconds = 30.0
    backoff_max_seconds: PositiveSeconds = 10.0
    rebalance_seconds: PositiveSeconds | None = None
    core_dumps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The operators' HTTP port (/live, /ready, /workers). Port 0 picks a free port.

    socket: the path of a Unix socket, in place of host and port. token: required of every request
    except probes; without a token, requests that change something (POST) are accepted on loopback
    and on the socket only. hosts: names by which requests without the token may ask.
    metrics_port: a second port, which answers probes and /metrics only; None: there is none.
    """

    __pydantic_config__ = _STRICT

    host: Text = "127.0.0.1"
    port: Port = 8490
    socket: Text | None = None
    token: Text | None = field(default=None, repr=False)
    hosts: tuple[Text, ...] = ()
    metrics_host: Text = "127.0.0.1"
    metrics_port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The level and the format of the log."""

    __pydantic_config__ = _STRICT

    level: Level = "INFO"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `streams` is never empty after loading."""

    __pydantic_config__ = _STRICT

    kafka: Kafka
    streams: dict[Text, Stream] = field(default_factory=dict)
    schema_registry: SchemaRegistry = field(default_factory=SchemaRegistry)
    server: Server = field(default_factory=Server)
    limits: Limits = field(default_factory=Limits)
    auth: Auth = field(default_factory=Auth)
    history: History = field(default_factory=History)
    bus: Bus = field(default_factory=Bus)
    supervision: Supervision = field(default_factory=Supervision)
    admin: Admin = field(default_factory=Admin)
    log: Logging = field(default_factory=Logging)
