"""Secrets and certificates in files, also as editors on other systems save them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from energyws.auth.denied import MAX_DENIED_BYTES
from energyws.control.config import load
from energyws.control.config.files import (
    bad_denied_lines,
    check_files,
    pem_fault,
    secret_files,
    with_secret_files,
    without_secret_files,
)
from energyws.control.config.rules import warnings
from energyws.errors import ConfigError
from energyws.settings import Auth, Kafka, SchemaRegistry, Server, Settings, Tls
from tests.control.configs import GOOD, KAFKA, SECRET

NEW, OLD = "new " * 8, "old " * 8
BOM = b"\xef\xbb\xbf"


def secret_in(tmp_path: Path, data: bytes) -> str | None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    text = KAFKA + f"auth: {{jwt_secret_file: {path}}}\n"
    return with_secret_files(load.parse(text, "c.yaml", {})).auth.jwt_secret


@pytest.mark.parametrize("before", [b"", BOM])
@pytest.mark.parametrize("after", [b"", b"\n", b"\r\n", b"\r\n\r\n"])
def test_secret_is_the_text_without_its_line_end(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    assert secret_in(tmp_path, before + SECRET.encode() + after) == SECRET
    assert secret_in(tmp_path, before + ("é€" * 7).encode() + after) == "é€" * 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_secret_in_utf_16_is_refused_as_such(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError) as refused:
        secret_in(tmp_path, SECRET.encode(encoding))
    (problem,) = refused.value.problems
    assert problem.endswith(": it is UTF-16 or binary: save it as UTF-8")
    assert refused.value.kind == "secret"


@pytest.mark.parametrize(
    ("data", "why"), [(BOM, "is empty"), (BOM + b"\r\n", "is empty"), (b"\xe9", "is not UTF-8")]
)
def test_file_without_a_secret_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        secret_in(tmp_path, data)


@pytest.mark.parametrize("key", ["jwt_secret", "jwt_secret_previous"])
@pytest.mark.parametrize("by", ["file", "text"])
def test_secret_that_can_be_guessed_is_refused_unless_allowed(
    tmp_path: Path, key: str, by: str
) -> None:
    weak, path = "canary" * 5, tmp_path / "weak"
    path.write_text(weak, encoding="utf-8")
    value = f"{key}_file: {path}" if by == "file" else f"{key}: {weak}"
    auth = value if key == "jwt_secret" else f"jwt_secret: {SECRET}, {value}"

    def loaded(more: str = "") -> Settings:
        text = f"{KAFKA}auth: {{{auth}{more}}}\n"
        return with_secret_files(load.parse(text, "c.yaml", {}))

    with pytest.raises(ConfigError) as refused:
        loaded()
    (problem,) = refused.value.problems
    assert problem.startswith(f"auth.{key}: shorter than 32 bytes")
    assert problem.endswith("or set auth.allow_weak_secret: true")
    assert "canary" not in problem
    assert refused.value.kind == "secret"
    assert getattr(loaded(", allow_weak_secret: true").auth, key) == weak
    # One that is not used may be a placeholder.
    issuer = ", issuer: i, jwks_url: 'https://i.example/'"
    assert loaded(issuer)
    with pytest.raises(ConfigError):
        loaded(f"{issuer}, jwt_secret_beside_issuers: true")


def test_deny_list_must_be_readable_and_not_endless(tmp_path: Path) -> None:
    path = tmp_path / "denied"
    settings = Settings(kafka=Kafka(brokers="b"), auth=Auth(denied_file=str(path)))
    with pytest.raises(ConfigError, match=r"auth\.denied_file: cannot read") as missing:
        check_files(settings)
    assert missing.value.kind == "deny_list"
    path.write_bytes(b'{"jti": "1"}\ncanary\n' + b"x\n" * 20)
    check_files(settings)
    first, *others = bad_denied_lines(settings)
    assert first.endswith(":2: not a JSON object")
    assert len(others) == 9
    assert bad_denied_lines(Settings(kafka=Kafka(brokers="b"))) == []
    path.write_bytes(b"#" * (MAX_DENIED_BYTES + 1))
    with pytest.raises(ConfigError, match=r"auth\.denied_file: .* has more than") as large:
        check_files(settings)
    assert large.value.kind == "deny_list"


def test_configuration_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(BOM + GOOD.replace("\n", "\r\n").encode())
    assert load.load(path, env={}).auth.jwt_secret == SECRET


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"-----BEGIN CERTIFICATE-----\r\n", None),
        (b"\x30\x82\x01", None),
        (BOM + b"-----BEGIN", "has a byte order mark on line 1"),
        (b"a\nb\n" + BOM + b"-----BEGIN", "has a byte order mark on line 3"),
        ("-----BEGIN".encode("utf-16"), "is UTF-16 or binary: PEM is plain text"),
        ("-----BEGIN".encode("utf-16-le"), "is UTF-16 or binary: PEM is plain text"),
    ],
)
def test_faults_that_hide_a_certificate_are_found(data: bytes, fault: str | None) -> None:
    found = pem_fault(data)
    assert found is None if fault is None else found is not None and found.startswith(fault)


@pytest.mark.parametrize("key", ["jwt_secret", "jwt_secret_previous"])
def test_byte_order_mark_in_a_variable_is_warned_of(key: str) -> None:
    # As after `export JWT_SECRET=$(cat FILE)`.
    env = {f"ENERGYWS_AUTH__{key}": f"\ufeff{SECRET}"}
    (warning,) = warnings(load.parse(GOOD, "c.yaml", env))
    assert warning == f"auth.{key}: begins with a byte order mark, which is part of the secret"


@pytest.mark.parametrize(
    ("token", "warned"),
    [
        ("let me in at once", False),
        ("let me in at once\r", True),
        (" let me in at once", True),
        ("let me in\nat once", True),
        ("\ufefflet me in at once", True),
    ],
)
def test_token_that_no_request_can_carry_is_warned_of(token: str, warned: bool) -> None:
    settings = load.parse(GOOD, "c.yaml", {"ENERGYWS_ADMIN__TOKEN": token})
    assert [each.startswith("admin.token: ") for each in warnings(settings)] == [True] * warned


def test_only_the_secrets_of_files_are_left_out() -> None:
    auth = Auth(jwt_secret="file", jwt_secret_file="/s", jwt_secret_previous="typed")
    settings = Settings(kafka=Kafka(brokers="b"), auth=auth)
    assert secret_files(settings) == {"auth.jwt_secret": "/s"}
    left = without_secret_files(settings).auth
    assert (left.jwt_secret, left.jwt_secret_previous) == (None, "typed")


def test_secrets_come_from_files(tmp_path: Path) -> None:
    now, before = tmp_path / "now", tmp_path / "before"
    now.write_text(f"{NEW}\n", encoding="utf-8")
    before.write_text(f"{OLD}\r\n", encoding="utf-8")
    auth = f"auth: {{jwt_secret_file: {now}, jwt_secret_previous_file: {before}}}\n"
    path = tmp_path / "config.yaml"
    path.write_text(KAFKA + auth, encoding="utf-8")

    settings = load.load(path, env={})
    assert (settings.auth.jwt_secret, settings.auth.jwt_secret_previous) == (NEW, OLD)
    assert NEW not in load.describe(settings)
    assert OLD not in load.describe(settings)

    # An empty file ends the overlap of the two secrets.
    before.write_text("\n", encoding="utf-8")
    assert with_secret_files(settings).auth.jwt_secret_previous is None

    before.write_bytes(b"\xff")
    now.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})
    assert caught.value.kind == "secret"
    empty, unreadable = caught.value.problems
    assert empty.startswith("auth.jwt_secret_file: ")
    assert empty.endswith(" is empty")
    assert unreadable.startswith("auth.jwt_secret_previous_file: cannot read ")
    assert unreadable.endswith(": it is not UTF-8")


def test_password_of_the_registry_comes_from_its_file(tmp_path: Path) -> None:
    file, path = tmp_path / "password", tmp_path / "config.yaml"
    file.write_text("canary\n", encoding="utf-8")
    registry = f"{{url: 'https://r.example', username: me, password_file: {file}}}"
    path.write_text(GOOD + f"schema_registry: {registry}\n", encoding="utf-8")
    settings = load.load(path, env={})
    assert settings.schema_registry.password == "canary"
    assert "canary" not in load.describe(settings) + repr(settings)
    assert secret_files(settings) == {"schema_registry.password": str(file)}
    file.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"schema_registry\.password_file: .* is empty"):
        load.load(path, env={})


def test_authorities_of_the_registry_must_be_readable(tmp_path: Path) -> None:
    good = Path(_pair(tmp_path, "a").cert)
    for data, fault in (
        (good.read_bytes(), None),
        (b"no PEM", "has no certificate in PEM"),
        (b"a\0", "is UTF-16 or binary"),
        (None, "cannot be read: No such file or directory"),
    ):
        file = tmp_path / "ca.crt"
        file.unlink(missing_ok=True)
        if data is not None:
            file.write_bytes(data)
        settings = Settings(kafka=Kafka(brokers="b"), schema_registry=SchemaRegistry(ca=str(file)))
        if fault is None:
            check_files(settings)
            continue
        with pytest.raises(ConfigError) as caught:
            check_files(settings)
        (problem,) = caught.value.problems
        assert problem.startswith("schema_registry.ca: ")
        assert fault in problem


def _pair(folder: Path, name: str, password: bytes | None = None) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
    )
    return Tls(cert=str(folder / f"{name}.crt"), key=str(folder / f"{name}.key"))


def _with(tls: Tls | None) -> Settings:
    return Settings(kafka=Kafka(brokers="b"), server=Server(tls=tls))


def test_a_certificate_and_its_key_pass(tmp_path: Path) -> None:
    check_files(_with(None))
    check_files(_with(_pair(tmp_path, "a")))


def test_every_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    tls = Tls(cert=str(tmp_path / "no"), key=str(tmp_path / "folder"))

    with pytest.raises(ConfigError) as caught:
        check_files(_with(tls))

    where = [problem.replace(str(tmp_path), "").split(": ") for problem in caught.value.problems]
    assert [(each[0], each[-1]) for each in where] == [
        ("server.tls.cert", "No such file or directory"),
        ("server.tls.key", "Is a directory"),
    ]


@pytest.mark.parametrize("case", ["other key", "passphrase", "no PEM"])
def test_a_pair_that_cannot_be_loaded_is_refused(tmp_path: Path, case: str) -> None:
    tls = _pair(tmp_path, "a", b"passphrase" if case == "passphrase" else None)
    if case == "other key":
        tls = Tls(cert=tls.cert, key=_pair(tmp_path, "b").key)
    if case == "no PEM":
        Path(tls.cert).write_text("hunter2")

    with pytest.raises(ConfigError, match=r"^server\.tls: .* do not go together: ") as caught:
        check_files(_with(tls))

    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("key", ["cert", "key"])
def test_byte_order_mark_in_a_certificate_is_reported(tmp_path: Path, key: str) -> None:
    tls = _pair(tmp_path, "a")
    path = Path(getattr(tls, key))
    # Notepad's, between two concatenated files: OpenSSL would skip the second silently.
    path.write_bytes(path.read_bytes() + b"\xef\xbb\xbf" + path.read_bytes())
    line = path.read_bytes().count(b"\n") // 2 + 1

    with pytest.raises(ConfigError, match=rf"^server\.tls\.{key}: .* on line {line}, which hides"):
        check_files(_with(tls))
