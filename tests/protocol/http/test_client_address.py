from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.http.client_address import (
    TrustedProxies,
    canonical,
    client_of,
    forwarded,
    forwarded_for,
    network,
)

TRUSTED = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::/48", "::1"])
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not: an address", "not: an address"),
    ],
)
def test_client_is_an_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    assert client_of(address) == client


def test_addresses_have_one_spelling() -> None:
    assert canonical("2001:DB8::0:1") == "2001:db8::1"
    assert canonical("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical("192.0.2.1") == "192.0.2.1"
    assert canonical("192.0.2.01") is None
    assert canonical("localhost") is None


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", ""])
def test_networks_must_be_networks(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        network(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
    ],
)
def test_network_of_ipv4_in_ipv6_is_one_of_ipv4(text: str, same: str) -> None:
    assert str(network(text)) == same


def test_trusted_peers() -> None:
    assert "10.255.0.1" in TRUSTED
    assert "::ffff:10.1.1.1" in TRUSTED
    assert "2001:db8:ffff:9::1" in TRUSTED
    assert "11.0.0.1" not in TRUSTED
    assert "nonsense" not in TRUSTED
    assert TRUSTED.some
    assert not TrustedProxies(()).some


FOR = [
    ([], PROXY),
    ([""], PROXY),
    (["192.0.2.1"], "192.0.2.1"),
    # What stands to the left of an untrusted address is its invention.
    (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
    (["203.0.113.9,192.0.2.1, 10.2.0.1"], "192.0.2.1"),
    (["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
    (["192.0.2.1:4711"], "192.0.2.1"),
    (["[2001:db8::1]:443"], "2001:db8::1"),
    (["2001:DB8::1"], "2001:db8::1"),
    (["::ffff:192.0.2.1"], "192.0.2.1"),
    (["203.0.113.9, 192.0.2.1, ::ffff:10.2.0.1"], "192.0.2.1"),
    # More trusted hops than anybody has: the farthest that is followed.
    (["192.0.2.1" + ", 10.2.0.1" * 40], "10.2.0.1"),
    # Only proxies: the one that is farthest away.
    (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
    # Unknown: the last that is known, a proxy.
    (["192.0.2.1, unknown"], PROXY),
    (["192.0.2.1, _hidden, 10.0.0.8"], "10.0.0.8"),
    (["192.0.2.1, "], PROXY),
    (["192.0.2.999"], PROXY),
]


@pytest.mark.parametrize(("fields", "client"), FOR)
def test_x_forwarded_for_is_read_from_the_right(fields: list[str], client: str) -> None:
    assert TRUSTED.client(PROXY, forwarded_for(fields)) == client


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ([], PROXY),
        (["for=192.0.2.1"], "192.0.2.1"),
        (['For="192.0.2.1:80";proto=https;by=10.0.0.1'], "192.0.2.1"),
        (['proto=https;for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (["for=203.0.113.9, for=192.0.2.1"], "192.0.2.1"),
        (["for=192.0.2.1", "for=10.0.0.8"], "192.0.2.1"),
        (["for=unknown"], PROXY),
        (["for=_mystery"], PROXY),
        (["proto=https"], PROXY),
        (["for=192.0.2.1;for=192.0.2.2"], PROXY),
        (["nonsense"], PROXY),
        # A comma in quotes ends no element.
        (['for="203.0.113.9,for=10.0.0.8", for=192.0.2.1'], "192.0.2.1"),
        # A quote that a client leaves open does not swallow what the proxy appends.
        (['for="203.0.113.9', "for=192.0.2.1"], "192.0.2.1"),
        (['for="203.0.113.9', 'for="[2001:db8::1]";by="10.0.0.1"'], "2001:db8::1"),
        (['for="', 'for="192.0.2.1:80"'], "192.0.2.1"),
    ],
)
def test_forwarded_is_read_from_the_right(fields: list[str], client: str) -> None:
    assert TRUSTED.client(PROXY, forwarded(fields)) == client


def test_only_a_trusted_peer_is_believed() -> None:
    assert TRUSTED.client("192.0.2.7", forwarded_for(["203.0.113.9"])) == "192.0.2.7"


@given(
    st.text(alphabet='for=";,\\ 1.:[]ab', max_size=60), st.sampled_from([forwarded, forwarded_for])
)
def test_no_client_can_change_what_a_proxy_appends(invented: str, read: object) -> None:
    appended = "for=192.0.2.1" if read is forwarded else "192.0.2.1"
    hops = forwarded if read is forwarded else forwarded_for
    assert TRUSTED.client(PROXY, hops([invented, appended])) == "192.0.2.1"


@pytest.mark.parametrize(
    "text",
    ["," * 12_000, 'for="' * 3_000, "a=b;" * 3_000, 'for="' + "\\" * 12_000, ',for="a' * 2_000],
)
def test_long_fields_are_read_at_all(text: str) -> None:
    # A parser that backtracks would take minutes, and run into the time limit of a test.
    for read in (forwarded, forwarded_for):
        assert TRUSTED.client(PROXY, read([text])) == PROXY
