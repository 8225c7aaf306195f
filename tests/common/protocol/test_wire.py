"""The wire keeps vectors bit for bit and refuses anything else by name."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import WireError
from common.protocol import wire

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_flatten_and_unflatten_are_inverse(shapes: list[tuple[int, ...]], seed: int) -> None:
    layout = wire.Layout.of({f"p{i}": shape for i, shape in enumerate(shapes)})
    vector = np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)
    tensors = layout.unflatten(vector)
    assert [tensors[name].shape for name in layout.names] == shapes
    assert np.array_equal(layout.flatten(tensors), vector)
    assert wire.Layout.from_json(layout.to_json()) == layout


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32)))
def test_a_vector_survives_the_wire_bit_for_bit(vector: wire.FloatVector) -> None:
    content = wire.pack(wire.Header(run="r", round=3, site="a"), vector=vector)
    assert wire.decode_floats(content, vector.size, where="t").tobytes() == vector.tobytes()


def test_header_and_metrics_return_as_sent() -> None:
    header = wire.Header(run="r", round=2, site="oslo", layout="l", plan={"initial": True, "n": 1.5})
    content = wire.pack(header, metrics={"valid/ndcg@20": 0.25})
    assert wire.read_header(content, where="t") == header
    assert wire.read_metrics(content) == {"valid/ndcg@20": 0.25}


def test_layout_digest_tells_order_and_shape_apart() -> None:
    digests = {
        wire.Layout.of(shapes).digest
        for shapes in (
            {"a": (2,), "b": (3,)},
            {"b": (3,), "a": (2,)},
            {"a": (3,), "b": (2,)},
            {"a": (2, 1), "b": (3,)},
        )
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (Array("float64", (2,), "hansa.flat", bytes(16)), "not float32"),
        (Array("float32", (2,), "numpy.ndarray", bytes(8)), "numpy.ndarray"),
        (Array("float32", (3,), "hansa.flat", bytes(12)), "not 2 numbers"),
        (Array("float32", (2,), "hansa.flat", bytes(12)), "not 2 numbers"),
        (Array("float32", (2, 1), "hansa.flat", bytes(8)), "not 2 numbers"),
    ],
)
def test_a_vector_off_contract_is_refused_with_site_and_round(array: Array, fault: str) -> None:
    content = RecordDict({wire.VECTOR: ArrayRecord({wire.VECTOR: array})})
    with pytest.raises(WireError, match=fault) as caught:
        wire.decode_floats(content, 2, where=wire.place("oslo", 4))
    assert "site 'oslo', round 4" in str(caught.value)


def test_missing_parts_are_refused() -> None:
    with pytest.raises(WireError, match="no header"):
        wire.read_header(RecordDict(), where="t")
    with pytest.raises(WireError, match="exactly one vector"):
        wire.decode_floats(RecordDict(), 1, where="t")


def test_nan_and_infinity_are_counted() -> None:
    with pytest.raises(WireError, match="2 of 3 values are NaN or infinite, the first at 1"):
        wire.check_finite(np.array([0, np.nan, np.inf], dtype=np.float32), where="t")


def test_layout_refuses_foreign_names_and_shapes() -> None:
    layout = wire.Layout.of({"a": (2,)})
    with pytest.raises(WireError, match="missing or foreign"):
        layout.flatten({"b": np.zeros(2)})
    with pytest.raises(WireError, match="shape"):
        layout.flatten({"a": np.zeros(3)})
    with pytest.raises(WireError, match="shape"):
        layout.unflatten(np.zeros(3, dtype=np.float32))
    for text in ("{", "[1]", '[["a",[-1]]]'):
        with pytest.raises(WireError):
            wire.Layout.from_json(text)
