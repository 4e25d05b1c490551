"""The programs of the how-to pages, against a running service."""

from __future__ import annotations

import json
import socket
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.client import CallbackAPIVersion
from websockets.sync.client import connect

from energyws.testing import Service, eventually, token
from tests.docs.conftest import METERS, Meters
from tests.docs.shell import Running, replaced
from tests.docs.snippets import load_yaml, snippet, snippets
from tests.http_clients import fetch
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def variables(text: str, service: Service, **more: str) -> str:
    """A block that sets the address and the token, with those of the service."""
    changes = {"wss://meters.example/ws/energy": service.url, "TOKEN=…": f"TOKEN={token()}"}
    return replaced(text, {**changes, **more})


def newest(service: Service, count: int = 1) -> list[dict[str, Any]]:
    """The newest `data` messages; fewer, if there are not so many."""
    url = f"{service.url}?subscribe=energy&last={count}&token={token()}"
    with connect(url, proxy=None) as peer:
        subscribed = json.loads(peer.recv(timeout=20))
        replayed = subscribed["positions"]["energy"]["replayed"]
        return [json.loads(peer.recv(timeout=20)) for _ in range(replayed)]


def test_python_script(meters: Meters, tmp_path: Path) -> None:
    service, _ = meters
    script, commands = snippets(test_python_script)
    (tmp_path / "readings.py").write_text(script.text)
    lines: list[str] = []
    for _run in range(2):
        with Running(variables(commands.text, service), tmp_path) as running:
            running.lines(" W", 5)
            running.stop()
            lines += [line for line in running.output if line.endswith(" W")]
    # Killed between a line and its position, the script repeats this line.
    assert len(lines) - len(set(lines)) <= 1
    # Partitions are not in step with each other at either end.
    first, last = max(lines[:METERS]), min(lines[-METERS:])
    readings = [
        f"{each['timestamp']} {each['data']['activeActualConsumption']['total']} W"
        for each in newest(service, 1000)
    ]
    between = {line for line in readings if first <= line <= last}
    assert len(between) > METERS
    assert between <= set(lines)


def test_mqtt_bridge(meters: Meters, tmp_path: Path) -> None:
    service, serials = meters
    executable = program("mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
    )
    script, commands = snippets(test_mqtt_bridge)
    (tmp_path / "bridge.py").write_text(script.text)
    changes = {"mqtt.example": f"127.0.0.1\nexport MQTT_PORT={port}"}
    received: dict[str, list[dict[str, Any]]] = defaultdict(list)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("energy/#", qos=1)
    client.on_message = lambda _, __, sent: received[sent.topic].append(json.loads(sent.payload))
    broker = subprocess.Popen([executable, "-c", tmp_path / "mosquitto.conf"])
    try:
        with Running(variables(commands.text, service, **changes), tmp_path):
            client.connect_async("127.0.0.1", port)
            client.loop_start()
            topics = {f"energy/{serial}" for serial in serials}
            eventually(
                lambda: topics == received.keys() and min(map(len, received.values())) > 3,
                "readings of both meters",
            )
    finally:
        client.disconnect()
        client.loop_stop()
        broker.terminate()
        broker.wait()
    for topic, readings in received.items():
        assert {reading["saveeyeDeviceSerialNumber"] for reading in readings} == {
            topic.removeprefix("energy/")
        }


def test_home_assistant_templates(meters: Meters) -> None:
    service, _ = meters
    by_mqtt, by_http = (load_yaml(block.text) for block in snippets(test_home_assistant_templates))
    answer = fetch(service, "/last/energy").json
    reading = answer["records"][-1]["data"]

    def shown(sensor: dict[str, Any], value: Any) -> float:
        # Home Assistant renders the template with the parsed payload.
        return float(jinja2.Template(sensor["value_template"]).render(value_json=value))

    watts = reading["activeActualConsumption"]["total"]
    power, energy = by_mqtt["mqtt"]["sensor"]
    assert shown(power, reading) == watts
    assert shown(energy, reading) == reading["activeTotalConsumption"]["total"] / 1000
    (rest,) = by_http["rest"]
    (sensor,) = rest["sensor"]
    assert urlsplit(rest["resource"]).path == "/last/energy"
    assert shown(sensor, answer) == watts


def test_node_red_flow(meters: Meters, tmp_path: Path) -> None:
    service, serials = meters
    nodes = {node["type"]: node for node in json.loads(snippet(test_node_red_flow))}
    # Whole properties only are taken from the environment.
    assert nodes["websocket-client"]["path"] == "${ENERGYWS_URL}"
    (header,) = nodes["websocket-client"]["headers"]
    assert (header["keyValue"], header["valueType"]) == ("Authorization", "env")
    known = {node["id"] for node in nodes.values()}
    assert {
        each for node in nodes.values() for wire in node.get("wires", []) for each in wire
    } < known
    script = tmp_path / "function.js"
    script.write_text(
        f"const change = new Function('msg', {json.dumps(nodes['function']['func'])});\n"
        f"const data = {json.dumps(newest(service)[0])};\n"
        "const found = [data, {type: 'subscribed'}].map((payload) => change({payload}));\n"
        "console.log(JSON.stringify(found));\n"
    )
    done = subprocess.run(
        [program("node"), script], capture_output=True, text=True, timeout=30, check=True
    )
    found, ignored = json.loads(done.stdout)
    assert found["topic"] in serials
    assert isinstance(found["payload"], int)
    assert ignored is None
