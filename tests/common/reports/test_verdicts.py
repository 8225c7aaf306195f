"""What a report says of joining follows from intervals, whatever the file states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.reports.verdicts import (
    DID_NOT_PAY,
    NO_DIFFERENCE,
    PAID,
    count_sentence,
    read_headline,
    read_slices,
    read_verdicts,
)
from common.reports.words import NEXT_STEPS, SLICES

EDGE = st.floats(-1, 3, allow_nan=False)


def row(
    site: str, gain: float | None, low: float | None, high: float | None, **more: object
) -> dict[str, object]:
    together = None if gain is None else {"gain": gain, "low": low, "high": high}
    return {"site": site, "together": together, "next_step": {"code": "join"}, **more}


@pytest.mark.parametrize(
    ("gain", "low", "high", "verdict"),
    [(0.2, 0.1, 0.3, PAID), (0.2, -0.1, 0.5, NO_DIFFERENCE), (-0.2, -0.3, -0.1, DID_NOT_PAY),
     (0.2, None, None, NO_DIFFERENCE), (0.2, 0.0, 0.4, NO_DIFFERENCE)],
)  # fmt: skip
def test_the_verdict_follows_from_the_interval(
    gain: float, low: float | None, high: float | None, verdict: str
) -> None:
    (read,) = read_verdicts([row("a", gain, low, high, verdict=PAID)], {})
    assert read.verdict == verdict


@given(EDGE, EDGE, EDGE)
def test_nothing_is_called_paid_where_the_interval_spans_no_difference(
    gain: float, one: float, two: float
) -> None:
    low, high = sorted((one, two))
    (read,) = read_verdicts([row("a", gain, low, high)], {})
    head = read_headline({"over": {"alone": {"ratio": 1 + gain, "low": 1 + low, "high": 1 + high}}})
    assert head is not None
    if low <= 0 <= high:
        assert read.verdict == NO_DIFFERENCE
    if low < -1e-9 and high > 1e-9:
        assert head.short.en == "No gain by joining is proven."


def test_the_headline_is_over_the_strictest_opponent_and_never_over_the_league_without_privacy() -> None:
    over = {"best_alone": 1.2, "alone": 1.1, "non_private": 0.9}
    head = read_headline(
        {"against": "best_alone", "over": {name: {"ratio": value} for name, value in over.items()}}
    )
    assert head is not None
    assert (head.main.against, head.main.ratio) == ("alone", 1.1)
    assert set(head.over) == set(over)
    assert read_headline({"over": {"non_private": {"ratio": 0.9}}}) is None
    assert read_headline(None) is None


def test_losses_come_first_and_what_cannot_be_judged_last() -> None:
    read = read_verdicts(
        [row("a", 0.3, 0.1, 0.4), row("b", None, None, None), row("c", -0.1, -0.2, 0.1)], {"c": "Sea"}
    )
    assert [verdict.title for verdict in read] == ["Sea", "a", "b"]
    assert read[-1].verdict == ""


def test_merchants_left_out_of_training_are_not_counted() -> None:
    read = read_verdicts([row("a", 0.3, 0.1, 0.4), row("b", 0.3, 0.1, 0.4, held_out=True)], {})
    words = count_sentence(read)
    assert words is not None
    assert words.en.startswith("Joining did not pay for 0 of 1 merchants")
    assert words.zh.startswith("1 家商家中")
    assert count_sentence(read[1:]) is None


def test_of_log_loss_less_is_better() -> None:
    rows = [{"slice": "behaviour", "metric": "log_loss", "ratio": r, "low": r - 0.01, "high": r + 0.01}
            for r in (0.9, 1.0, 1.1)]  # fmt: skip
    assert [read.verdict for read in read_slices(rows)] == [PAID, NO_DIFFERENCE, DID_NOT_PAY]


def test_an_unknown_step_is_not_guessed_at() -> None:
    (read,) = read_verdicts([row("a", 0.3, 0.1, 0.4, next_step={"code": "dance"})], {})
    assert (read.words.en, read.words.zh) == ("–", "–")


def test_every_step_and_part_has_words_in_two_languages() -> None:
    for label in (*NEXT_STEPS.values(), *SLICES.values()):
        assert label.en.isascii()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in label.zh)
