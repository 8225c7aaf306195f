"""Pseudonyms are stable under one key and unlike under another; generalising never splits a crowd."""

from __future__ import annotations

import hashlib
import hmac
import os

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.anonymise import Pseudonyms, anonymity, generalise
from common.errors import ConfigError


def test_a_pseudonym_is_the_hmac_of_purpose_and_id() -> None:
    key = os.urandom(32)
    wanted = hmac.new(key, b"user\0li", hashlib.sha256).hexdigest()[:20]
    assert Pseudonyms(key).of("li") == wanted
    assert Pseudonyms(os.urandom(32)).of("li") != wanted
    assert Pseudonyms(key).of("li", "session") != wanted


def test_a_column_keeps_its_nulls_and_its_equalities() -> None:
    names = Pseudonyms(bytes(32)).of_all(pl.Series("u", ["a", None, "b", "a"]))
    assert names[1] is None
    assert names[0] == names[3] != names[2]


def test_a_short_key_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="32 bytes") as fault:
        Pseudonyms(b"hunter2")
    assert "hunter2" not in str(fault.value)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["10115", "10117", "20095", "200"])), max_size=60)
)
def test_generalising_reaches_k_or_leaves_nobody(rows: list[tuple[int, str]]) -> None:
    people = pl.DataFrame(rows, schema={"age": pl.Int64, "postcode": pl.String}, orient="row")
    made = generalise(people, 5)
    assert made.is_empty() or anonymity(made, ["age", "postcode"]) >= 5
    assert made.height >= 0.95 * people.height or people.height < 5


def test_k_of_a_table_is_its_loneliest_group() -> None:
    people = pl.DataFrame({"age": [30, 30, 40], "postcode": ["1", "1", "1"]})
    assert anonymity(people, ["age", "postcode"]) == 1
    assert anonymity(people.clear(), ["age", "postcode"]) == 0
