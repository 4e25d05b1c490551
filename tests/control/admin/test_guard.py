"""Who may ask the admin port for what."""

from __future__ import annotations

import socket
from email.message import Message

import pytest

from energyws.control.admin.guard import for_metrics, for_port
from energyws.settings import Admin

TOKEN = "a-token-of-an-operator"
JSON = {"Content-Type": "application/json"}


def status(admin: Admin, method: str, path: str, *fields: tuple[str, str], **more: str) -> int:
    """What refuses the request; 200: nothing does. more: header fields with _ for -."""
    headers: Message[str, str] = Message()
    for name, value in (
        *fields,
        *((name.replace("_", "-"), value) for name, value in more.items()),
    ):
        headers[name] = value
    refusal = for_port(admin).refusal(method, path, headers)
    return 200 if refusal is None else int(refusal[0])


OUTSIDE = Admin(host="0.0.0.0")
GUARDED = Admin(host="0.0.0.0", token=TOKEN)


@pytest.mark.parametrize(
    ("admin", "host", "expected"),
    [
        (Admin(), "127.0.0.1:8490", 200),
        (Admin(), "127.0.0.1", 200),
        (Admin(), "[::1]:8490", 200),
        (Admin(), "::1", 200),
        (Admin(), "10.1.2.3:8490", 200),
        (Admin(), "localhost:8490", 200),
        (Admin(), "LocalHost.", 200),
        (Admin(), "energyws.localhost:8490", 200),
        (Admin(), f"{socket.gethostname()}:8490", 200),
        (Admin(), "evil.example:8490", 421),
        (Admin(), "127.0.0.1.evil.example", 421),
        (Admin(), "localhost.evil.example", 421),
        (Admin(), "evil.example:127.0.0.1", 421),
        (Admin(), "evil.local", 421),
        (Admin(), "evil", 421),
        (Admin(), "", 421),
        (Admin(hosts=("Node1.Example.",)), "node1.example:8490", 200),
        (Admin(hosts=("node1.example",)), "node1.example.:8490", 200),
        (Admin(hosts=("node1.example",)), "evil.node1.example", 421),
        (Admin(host="node1.example"), "node1.example:8490", 200),
        # What Prometheus and load balancers ask for in a cluster, or in a network of containers.
        (OUTSIDE, "10.1.2.3:8490", 200),
        (OUTSIDE, "[fd00::7]:8490", 200),
        (OUTSIDE, "energyws:8490", 200),
        (OUTSIDE, "energyws-metrics.energy.svc:9464", 200),
        (OUTSIDE, "energyws.energy.svc.cluster.local:8490", 200),
        (OUTSIDE, "node1.home.arpa", 200),
        (OUTSIDE, "node1.example", 421),
        (OUTSIDE, "evil.svc.example", 421),
        (OUTSIDE, "", 421),
        (Admin(host="0.0.0.0", hosts=("node1.example",)), "node1.example", 200),
        # Who has the token is no page.
        (GUARDED, "evil.example", 401),
        (Admin(socket="/run/x"), "whatever.example", 200),
    ],
)
def test_host_of_a_request(admin: Admin, host: str, expected: int) -> None:
    assert status(admin, "GET", "/status", ("Host", host)) == expected


@pytest.mark.parametrize(("admin", "expected"), [(Admin(), 421), (OUTSIDE, 200)])
def test_prometheus_may_ask_by_any_name_from_elsewhere(admin: Admin, expected: int) -> None:
    assert status(admin, "GET", "/metrics", ("Host", "node1.example:8490")) == expected


def test_every_host_counts_and_none_is_right() -> None:
    assert status(Admin(), "GET", "/status") == 200
    both = ("Host", "127.0.0.1"), ("Host", "evil.example")
    assert status(Admin(), "GET", "/status", *both) == 421
    assert status(Admin(), "GET", "/status", *reversed(both)) == 421


@pytest.mark.parametrize("admin", [Admin(), OUTSIDE, GUARDED])
@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_probes_are_open_to_all(admin: Admin, path: str) -> None:
    asked = {"Host": "balancer.example", "Sec_Fetch_Site": "cross-site"}
    assert status(admin, "GET", path, **asked) == 200
    assert status(admin, "HEAD", path, **asked) == 200
    # Only to look.
    assert status(admin, "POST", path, **asked) != 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        ("", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer \xff", 401),
    ],
)
def test_token_is_demanded_of_every_request(method: str, sent: str, expected: int) -> None:
    for admin in (GUARDED, Admin(token=TOKEN), Admin(socket="/run/x", token=TOKEN)):
        assert status(admin, method, "/metrics", Authorization=sent) == expected


def test_token_makes_every_other_check_unnecessary() -> None:
    page = {"Origin": "https://a.example", "Sec_Fetch_Site": "cross-site", "Host": "b.example"}
    right = {**page, "Content_Type": "text/plain", "Authorization": f"Bearer {TOKEN}"}
    assert status(GUARDED, "POST", "/roll", **right) == 200


@pytest.mark.parametrize("admin", [Admin(), Admin(host="::1"), Admin(socket="/run/x")])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 200),
        (JSON, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "nonsense"}, 415),
        ({**JSON, "Origin": "http://127.0.0.1:8490"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({**JSON, "Sec-Fetch-Site": "same-origin"}, 403),
        ({**JSON, "sec-fetch-mode": "no-cors"}, 403),
    ],
)
def test_commands_without_a_token(admin: Admin, fields: dict[str, str], expected: int) -> None:
    assert status(admin, "POST", "/roll", *fields.items()) == expected


def test_commands_from_elsewhere_need_the_token() -> None:
    assert status(OUTSIDE, "POST", "/roll", *JSON.items()) == 403
    assert status(Admin(), "POST", "/roll", ("Host", "evil.example")) == 421


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        # A link in a dashboard: whose page it is on cannot read what it leads to.
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            200,
        ),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
            },
            403,
        ),
    ],
)
def test_looking_without_a_token(fields: dict[str, str], expected: int) -> None:
    assert status(Admin(), "GET", "/status", *fields.items()) == expected


@pytest.mark.parametrize(("host", "named"), [("0.0.0.0", 200), ("127.0.0.1", 421)])
def test_metrics_have_a_guard_without_a_token(host: str, named: int) -> None:
    guard = for_metrics(Admin(token=TOKEN, metrics_host=host, metrics_port=1))
    for name, expected in (("10.0.0.1:1", 200), ("node1.example:1", named)):
        headers: Message[str, str] = Message()
        headers["Host"] = name
        refusal = guard.refusal("GET", "/metrics", headers)
        assert (200 if refusal is None else refusal[0]) == expected
