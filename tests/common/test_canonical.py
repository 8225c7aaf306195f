"""The forms of JSON, byte for byte: signatures and digests of earlier runs hang on them."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.canonical import canonical, line, readable
from common.protocol.wire import Layout
from common.settings.config import LeagueConfig

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_signed_form_has_sorted_keys_no_spaces_and_escapes() -> None:
    data = {"b": [1, 0.5, (2, "é")], "a": {"z": None, "y": True}}
    assert canonical(data) == b'{"a":{"y":true,"z":null},"b":[1,0.5,[2,"\\u00e9"]]}'
    assert canonical({"图": "ü"}, ascii_only=False) == '{"图":"ü"}'.encode()


def test_a_line_and_a_document_keep_letters_as_they_are() -> None:
    assert line({"b": [1, 2], "a": "图"}) == '{"a": "图", "b": [1, 2]}\n'
    assert readable({"b": [1], "a": "图"}) == '{\n "b": [\n  1\n ],\n "a": "图"\n}'
    assert readable({"b": 1, "a": "图"}, sort_keys=True) == '{\n "a": "图",\n "b": 1\n}'


@given(st.dictionaries(st.text(), _VALUES, max_size=5), st.randoms())
def test_the_order_of_keys_changes_nothing_and_nothing_is_lost(
    data: dict[str, object], chance: object
) -> None:
    keys = list(data)
    chance.shuffle(keys)  # type: ignore[attr-defined]
    assert canonical({key: data[key] for key in keys}) == canonical(data)
    assert json.loads(canonical(data)) == json.loads(line(data)) == data


def test_nan_is_refused_where_it_is_said_so() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON"):
            canonical([value], allow_nan=False)
        with pytest.raises(ValueError, match="JSON"):
            readable([value], allow_nan=False)


def test_digests_of_earlier_runs_hold() -> None:
    text = '[["a","b"],[[2,2],[1]]]'
    assert Layout.of({"a": (2, 2), "b": (1,)}).digest == hashlib.sha256(text.encode()).hexdigest()
    assert Layout.of({"a": (2, 2), "b": (1,)}).to_json() == '[["a",[2,2]],["b",[1]]]'
    config = LeagueConfig(name="联盟")
    told = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert config.digest() == hashlib.sha256(told.encode()).hexdigest()
