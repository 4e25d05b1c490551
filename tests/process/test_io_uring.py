from __future__ import annotations

from energyws.process.io_uring import IoUring


def test_a_cleared_row_says_nothing() -> None:
    assert IoUring(0) is IoUring.UNKNOWN


def test_what_only_later_versions_know_is_unknown() -> None:
    assert IoUring(max(IoUring) + 1) is IoUring.UNKNOWN


def test_every_state_has_words_of_its_own_that_begin_with_whether_it_is_in_use() -> None:
    texts = {each: each.text for each in IoUring}

    assert len(set(texts.values())) == len(IoUring)
    assert {each for each, text in texts.items() if text.startswith("not used: ")} == (
        set(IoUring) - {IoUring.UNKNOWN, IoUring.IN_USE}
    )


def test_labels_are_words_for_metrics() -> None:
    assert IoUring.IN_USE.label == "in_use"
