"""Undocumented behaviour of dependencies that the code relies on, and the versions that have it.

If a test fails after an upgrade, check the file that it names against the new version before you
raise the bound in setup.cfg.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import io
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Final

import aiofastnet
import pytest
import yaml
from jwt.algorithms import HMACAlgorithm
from picows import WSUpgradeRequest, WSUpgradeResponse
from picows.picows import WSProtocol  # type: ignore[attr-defined]

ROOT: Final = Path(__file__).parent.parent


def picows_protocol() -> None:
    with pytest.raises(TypeError, match="exactly 15 positional arguments"):
        WSProtocol()


def picows_request() -> None:
    # upgrade.py deletes these attributes of a request.
    for name in ("headers", "method", "path", "version"):
        assert hasattr(WSUpgradeRequest, name)


def picows_response() -> None:
    response = WSUpgradeResponse.create_101_response()
    response.headers["Sec-WebSocket-Accept"] = "x"
    assert b"Sec-WebSocket-Accept: x" in response.to_bytes()


def aiofastnet_transport() -> None:
    from aiofastnet.selector_transport import SelectorSocketTransport

    with pytest.raises(TypeError, match="at least 3 positional arguments"):
        SelectorSocketTransport()


def aiofastnet_socket_bio() -> None:
    directory = Path(aiofastnet.__file__).parent
    assert "_aiofastnet_force_socket_bio" in (directory / "ssl_engine_direct.pyx").read_text()


def http_response() -> None:
    assert "fp" in inspect.getsource(HTTPResponse.__init__)
    assert hasattr(io.BufferedReader, "detach")


def yaml_composer() -> None:
    assert list(inspect.signature(yaml.SafeLoader.compose_node).parameters) == [
        *("self", "parent", "index")
    ]
    assert "tag:yaml.org,2002:bool" in {
        tag for each in yaml.SafeLoader.yaml_implicit_resolvers.values() for tag, _ in each
    }


def jwt_hmac() -> None:
    assert list(inspect.signature(HMACAlgorithm.prepare_key).parameters) == ["self", "key"]
    assert list(inspect.signature(HMACAlgorithm.check_key_length).parameters) == ["self", "key"]


# The package, the start of its version, and the file that relies on it.
RELIED_ON: Final[dict[Callable[[], None], tuple[str, str, str]]] = {
    picows_protocol: ("picows", "2.3.", "workers/websocket/accept/listener.py"),
    picows_request: ("picows", "2.3.", "workers/websocket/connection/upgrade.py"),
    picows_response: ("picows", "2.3.", "workers/websocket/connection/upgrade.py"),
    aiofastnet_transport: ("aiofastnet", "1.2.", "workers/websocket/accept/listener.py"),
    aiofastnet_socket_bio: ("aiofastnet", "1.2.", "workers/websocket/process.py"),
    yaml_composer: ("PyYAML", "6.", "energyws/control/config/yaml_tree.py"),
    jwt_hmac: ("PyJWT", "2.", "energyws/auth/verifier.py"),
}


@pytest.mark.parametrize(
    "behaviour", [*RELIED_ON, http_response], ids=lambda behaviour: behaviour.__name__
)
def test_dependency_behaves_as_the_code_expects(behaviour: Callable[[], None]) -> None:
    if behaviour in RELIED_ON:
        package, version, file = RELIED_ON[behaviour]
        installed = importlib.metadata.version(package)
        assert installed.startswith(version), f"{package} {installed}: check {file} against it"
        assert (ROOT / file).exists()
    behaviour()


def test_embedded_brokers_library_has_the_pinned_version() -> None:
    installed = importlib.metadata.version("confluent-kafka")
    assert f"confluent-kafka=={installed}" in (ROOT / "setup.cfg").read_text()
