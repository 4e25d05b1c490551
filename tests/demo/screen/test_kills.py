"""The story of a killed worker."""

from __future__ import annotations

from energyws.demo.screen.kills import Kill


def test_story_grows_until_everything_is_as_before() -> None:
    kill = Kill("12:00:00", "worker-1", 471, 10.0)
    assert (kill.is_over, kill.text()) == (False, "worker-1 (pid 471) killed · …")
    kill.lost_at = {3: 10.1, 7: 10.1}
    kill.pauses[3] = 0.4
    assert kill.text() == "worker-1 (pid 471) killed · 1 of 2 clients resumed"
    kill.successor = 500, 0.7
    assert not kill.is_over
    kill.pauses[7] = 0.9
    assert kill.is_over
    kill.received, kill.lost = 12_345, 0
    assert kill.text() == (
        "worker-1 (pid 471) killed · all 2 clients resumed within 0.9 s · "
        "pid 500 serves after 0.7 s · 0 lost of 12,345"
    )


def test_worker_without_clients_has_a_short_story() -> None:
    kill = Kill("12:00:00", "worker-0", 1, 0.0, successor=(2, 0.5))
    assert kill.is_over
    assert "none of our clients" in kill.text()
