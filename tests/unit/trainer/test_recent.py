"""The last lines of the log, as a message carries them."""

from __future__ import annotations

import logging

from kubeseg_trainer.recent import LAST, RecentLines


def lines(*texts: str) -> RecentLines:
    recent = RecentLines()
    for text in texts:
        recent.emit(logging.LogRecord("x", logging.INFO, "x", 1, text, None, None))
    return recent


def test_two_lines_say_enough() -> None:
    assert LAST == 2
    assert lines("epoch 1", "epoch 2", "epoch 3").text(300) == "epoch 2 | epoch 3"


def test_what_does_not_fit_is_left_out_the_older_first() -> None:
    assert lines("a" * 190, "b" * 150).text(300) == "b" * 150
    assert lines("only").text(300) == "only"
    assert lines().text(300) == ""
