"""The contract: what it says survives writing, what it forbids is refused, and nobody edits it unseen."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import RunError, WireError
from common.provision.authority import Authority
from common.provision.code import code_digest, installed_code
from common.provision.contract import FILE, SIGNATURE, Bounds, Contract, Member, read_signed
from common.provision.pinned import Pinned
from common.settings.load import load_config

MEMBERS = (
    Member("a", "ssh a", "fa", "5a", "a6", "0a", title="A"),
    Member("b", "ssh b", "fb", "5b", "b6", "0b", held_out=True, former="f0"),
)
NOW = dt.datetime(2027, 6, 1, tzinfo=dt.UTC)


def _contract(**changes: object) -> Contract:
    config = load_config(
        {"rounds": {"protection": "he+masked", "count": 5}, "privacy": {"mode": "user", "epsilon": 4}}
    )
    made = Contract(config, "c0de", MEMBERS, "north", 3, 2, "2027-12-31", Bounds("he", 8.0, 10), "ce" * 32)
    return replace(made, **changes)  # type: ignore[arg-type]


def _signed(folder: Path, contract: Contract) -> Authority:
    authority = Authority.create("north")
    contract.write(folder / FILE)
    (folder / "ca.crt").write_bytes(authority.pem())
    (folder / SIGNATURE).write_text(authority.sign((folder / FILE).read_bytes()).hex())
    return authority


def test_reads_what_was_written(tmp_path: Path) -> None:
    contract = _contract()
    contract.write(tmp_path / FILE)
    assert Contract.read(tmp_path / FILE) == contract


def test_apps_read_their_settings_from_it(tmp_path: Path) -> None:
    from common.storage.run_folder import read_config

    _contract().write(tmp_path / FILE)
    assert read_config(tmp_path / FILE) == _contract().config


def test_a_signed_contract_is_read(tmp_path: Path) -> None:
    _signed(tmp_path, _contract())
    assert read_signed(tmp_path) == _contract()


@pytest.mark.parametrize("part", ["until", "edition", "members", "bounds", "code", "receipts"])
def test_an_edit_is_seen(tmp_path: Path, part: str) -> None:
    _signed(tmp_path, _contract())
    told = json.loads((tmp_path / FILE).read_text())
    told[part] = {"until": "2030-01-01", "edition": 9, "members": told["members"][:1], "code": "other",
                  "bounds": {"least_protection": "plain", "most_epsilon": 0.0, "most_rounds": 0},
                  "receipts": "00" * 32}[part]  # fmt: skip
    (tmp_path / FILE).write_text(json.dumps(told))
    with pytest.raises(RunError, match="didn't sign"):
        read_signed(tmp_path)


def test_another_authority_or_none_is_refused(tmp_path: Path) -> None:
    _signed(tmp_path, _contract())
    (tmp_path / "ca.crt").write_bytes(Authority.create("north").pem())
    with pytest.raises(RunError, match="didn't sign"):
        read_signed(tmp_path)
    (tmp_path / SIGNATURE).unlink()
    with pytest.raises(RunError, match="didn't sign"):
        read_signed(tmp_path)


@pytest.mark.parametrize("broken", ['{"format": 1}', "[]", "{", '{"digest": "x", "settings": {}}'])
def test_a_damaged_contract_is_refused(tmp_path: Path, broken: str) -> None:
    (tmp_path / FILE).write_text(broken)
    with pytest.raises(RunError):
        Contract.read(tmp_path / FILE)


def test_it_ends_on_its_last_day() -> None:
    _contract(until="2027-06-01").require_valid(NOW)
    _contract(until="").require_valid(NOW)
    with pytest.raises(RunError, match="ended on 2027-05-31"):
        _contract(until="2027-05-31").require_valid(NOW)


@pytest.mark.parametrize(
    ("bounds", "word"),
    [(Bounds("he+masked", 3.0), "epsilon"), (Bounds(most_rounds=4), "rounds"), (Bounds("he+masked"), "")],
)
def test_settings_within_bounds_pass_and_others_are_refused(bounds: Bounds, word: str) -> None:
    contract = _contract(bounds=bounds)
    if not word:
        contract.require_valid(NOW)
        return
    with pytest.raises(RunError, match=word):
        contract.require_valid(NOW)


def test_each_protection_falls_short_of_the_stronger_ones() -> None:
    order = ("plain", "masked", "ckks", "he", "he+masked")
    for place, least in enumerate(order):
        for other, used in enumerate(order):
            release = "sites" if used == "ckks" else "coordinator"
            config = load_config({"rounds": {"protection": used, "release": release}})
            assert bool(Bounds(least).faults(config)) == (other < place), (least, used)


def test_privacy_that_is_off_breaks_a_promised_epsilon() -> None:
    assert Bounds(most_epsilon=50.0).faults(load_config({}))


def test_foreign_code_is_refused() -> None:
    with pytest.raises(RunError, match="isn't the one"):
        _contract().require_code()
    Contract(load_config({}), code_digest(installed_code()), MEMBERS).require_code()


def test_who_isnt_named_is_told_so() -> None:
    assert _contract().member("a").public_keys() == {"ed25519": "5a", "x25519": "a6", "rsa": "0a"}
    with pytest.raises(RunError, match="doesn't name site 'z'"):
        _contract().member("z")


def test_pinned_keys_refuse_swapped_foreign_and_missing_ones(tmp_path: Path) -> None:
    assert Pinned.beside(tmp_path) is None
    _contract().write(tmp_path / FILE)
    pinned = Pinned.beside(tmp_path)
    assert pinned is not None
    good = {name: {"site": name, **keys} for name, keys in _contract().public_keys().items()}
    pinned.require(good, "keys")
    assert pinned.receipts == "ce" * 32
    for name, changed in (("a", {"rsa": "0b"}), ("a", {"ed25519": ""}), ("b", {"x25519": None}), ("c", {})):
        with pytest.raises(WireError, match=f"'{name}'"):
            pinned.require({**good, name: {**good.get(name, {}), **changed}}, "keys")
