from __future__ import annotations

import pytest

from bench.attacks.attack import attack
from bench.attacks.classes import ATTACKS
from bench.attacks.classes.resets import client_hello
from bench.attacks.wire import LARGE_PING, MESSAGE_BYTES, masked, nested_token, subscribe


def test_every_attack_has_its_own_title() -> None:
    assert len({attack.title for attack in ATTACKS.values()}) == len(ATTACKS) > 30
    assert all(attack.title and attack.who and attack.answer for attack in ATTACKS.values())


def test_two_attacks_with_one_name_are_refused() -> None:
    register = attack(name="silent", title="", who="", answer="")
    with pytest.raises(ValueError, match="two attacks named silent"):
        register(lambda target: None)


def test_messages_are_frames_of_a_client() -> None:
    assert masked(b"x") == b"\x81\x81\0\0\0\0x"
    assert masked(bytes(200))[:4] == b"\x81\xfe\0\xc8"
    assert len(LARGE_PING) == MESSAGE_BYTES + 8
    assert subscribe(last=3).endswith(b'{"type":"subscribe","streams":["energy"],"last":3}')


def test_nested_token_has_three_parts_and_fits_into_a_head() -> None:
    token = nested_token(6_000)
    assert token.count(".") == 2
    assert 8_000 < len(token) < 9_000


def test_client_hello_is_one_record() -> None:
    hello = client_hello()
    # RFC 8446 section 5.1: a handshake record, its version and its length.
    assert hello[:2] == b"\x16\x03"
    assert len(hello) == 5 + int.from_bytes(hello[3:5])
