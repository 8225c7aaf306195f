"""What a catalogue says of its items: equal texts are one code, what isn't said is unknown."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from clients.data.facts import ItemFacts, item_facts


def products(**columns: list[object]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    empty: dict[str, list[object]] = {
        name: [None] * count for name in ("price", "category", "brand", "title", "product_code", "attributes")
    }
    return pl.DataFrame({**empty, **columns})


def test_prices_are_logs_and_what_is_no_price_is_unknown() -> None:
    found = item_facts(products(price=[math.e, 1.0, 0.0, -3.0, None])).log_price
    assert found.dtype == np.float32
    assert found[:2] == pytest.approx([1.0, 0.0])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("name", ["category", "brand", "title", "product_code"])
def test_equal_texts_are_one_number_whatever_their_case_and_blanks(name: str) -> None:
    column: list[object] = ["Lamps", None, " lamps ", "Rugs", "", "  ", "RUGS", "lamp"]
    codes = getattr(item_facts(products(**{name: column})), name)
    assert codes.dtype == np.int64
    assert [place for place, code in enumerate(codes) if code == -1] == [1, 4, 5]
    assert codes[0] == codes[2]
    assert codes[3] == codes[6]
    assert len({codes[0], codes[3], codes[7]}) == 3
    assert min(code for code in codes if code >= 0) >= 0


def test_attributes_are_shares_that_sum_to_one() -> None:
    found = item_facts(
        products(attributes=["red; wool", None, "Wool", "blue;;WOOL;red ;red", ";"])
    ).attributes
    dense = found.toarray()
    assert dense.sum(1).tolist() == pytest.approx([1.0, 0.0, 1.0, 1.0, 0.0])
    assert sorted(dense[0][dense[0] > 0].tolist()) == [0.5, 0.5]
    assert sorted(dense[3][dense[3] > 0].tolist()) == pytest.approx([1 / 3] * 3)
    (wool,) = np.flatnonzero(dense[2])
    assert (dense[[0, 3], wool] > 0).all()
    assert ((dense[0] > 0) & (dense[3] > 0)).sum() == 2


def test_of_a_catalogue_that_says_nothing_all_is_unknown() -> None:
    for found in (ItemFacts.unknown(3), item_facts(products(price=[None] * 3))):
        assert np.isnan(found.log_price).all()
        assert found.category.tolist() == found.title.tolist() == [-1] * 3
        assert found.attributes.shape[0] == 3
        assert found.attributes.nnz == 0
