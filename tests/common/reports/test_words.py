"""Words of methods, steps and reasons; a reason is told as the sites write it."""

from __future__ import annotations

from clients.evaluation.reasons import FAMILIES
from common.reports.story import METHODS
from common.reports.words import METHOD_NAMES, METHOD_NOTES, REASONS, method_name, next_step_words, reason


def test_every_method_that_ranks_has_a_name_and_a_note_in_both_languages() -> None:
    assert set(METHODS) == set(METHOD_NOTES) <= set(METHOD_NAMES)
    assert all(label.en != label.zh for label in (*METHOD_NAMES.values(), *METHOD_NOTES.values()))


def test_the_reasons_are_those_that_sites_write() -> None:
    assert [(label.en, label.zh) for label in REASONS] == list(FAMILIES.values())


def test_a_reason_is_translated_either_way() -> None:
    both = reason("bought together 61 %, in demand 30 %")
    assert both.zh == "常被一起购买 61%，近期热销 30%"
    assert reason(both.zh) == both
    assert reason("常被一起购买 61%,近期热销 30%") == both


def test_other_words_stay_as_they_are() -> None:
    for why in ("because", "bought together 61 %, magic 30 %", "nothing speaks for it in particular"):
        assert reason(why).en == reason(why).zh == why


def test_a_step_names_the_method() -> None:
    words = next_step_words("stay_out", "ease")
    assert method_name("ease").en in words.en
    assert method_name("ease").zh in words.zh
