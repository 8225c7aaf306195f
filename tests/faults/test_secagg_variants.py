"""Other choices of the contract: a fallback of encryption, three fields a word, chance in rounding, counts, CKKS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict
from safetensors.numpy import load_file

from clients.training.noop import NoopSite
from common.crypto.fields import Packing
from common.errors import ConfigError, WireError
from common.files import read_json, read_lines
from common.protocol import wire
from common.settings.load import load_config
from simulations.engines.local import LocalGrid
from tests.faults.leagues import SITES, SIZE, make_keys, make_league, model_of, run_league, secagg_sites

VARIANTS: dict[str, dict[str, Any]] = {
    "fallback": {"backend": "tenseal"},
    "three-fields": {"field_bits": 14, "fields": 3},
    "stochastic": {"rounding": "stochastic"},
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), SITES[:4])


def _gone(site: str, message: Message, context: Context) -> Message | None:
    header = wire.read_header(message.content, where="test")
    hit = site == "s1" and header.round == 2 and message.metadata.message_type == wire.TRAIN
    return Message(Error(9, "gone"), reply_to=message) if hit else None


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_gives_the_model_of_plain_bit_for_bit(variant: str, keys: Path, tmp_path: Path) -> None:
    models = []
    for protection in ("plain", "he+masked"):
        settings = {**VARIANTS[variant], "protection": protection, "count": 2}
        run = make_league(tmp_path / protection, keys, 4, **settings)
        run_league(run, _gone)
        models.append(model_of(run.release))
    assert models[0] == models[1]


def test_stochastic_rounding_is_unbiased_where_rounding_to_the_nearest_is_not(
    keys: Path, tmp_path: Path
) -> None:
    means = {}
    for rounding in ("nearest", "stochastic"):
        settings = {"protection": "masked", "field_bits": 8, "fields": 5, "rounding": rounding, "count": 1}
        run = make_league(tmp_path / rounding, keys, 4, **settings)
        run_league(run)
        found = np.concatenate([t.ravel() for t in load_file(run.release / "model.safetensors").values()])
        means[rounding] = found
    plain = make_league(tmp_path / "plain", keys, 4, protection="plain", quantise=False, count=1)
    run_league(plain)
    truth = np.concatenate([t.ravel() for t in load_file(plain.release / "model.safetensors").values()])
    unit = 2.0 / Packing(8, 5).scale(1.0, 4)
    assert abs(float(np.mean(means["stochastic"] - truth))) < 6 * unit / SIZE**0.5
    assert float(np.abs(means["nearest"] - truth).max()) > 0


@pytest.mark.parametrize("protection", ["masked", pytest.param("he+masked", marks=pytest.mark.slow)])
def test_a_protected_count_weighs_and_is_not_told(protection: str, keys: Path, tmp_path: Path) -> None:
    told: list[Any] = []

    def watched(site: str, message: Message, context: Context) -> Message | None:
        told.append(message)
        return _gone(site, message, context)

    settings = {"protection": protection, "weights": "count", "count_bound": 2000, "count": 1}
    run = make_league(tmp_path / "a", keys, 4, **settings)
    run_league(run, watched)
    found = np.concatenate([t.ravel() for t in load_file(run.release / "model.safetensors").values()])
    seed = run.config().seed
    sites = [NoopSite(name, seed, SIZE) for name in SITES[:4]]
    users = np.array([round(site.prepare()["users"]) for site in sites])
    first = sites[0].initial()
    updates = np.stack([site.train(first, 1).update for site in sites])
    np.testing.assert_allclose(found, first + np.average(updates, axis=0, weights=users), atol=2e-4)
    [line] = read_lines(run.rounds_file)
    assert set(line["weights"].values()) == {1.0}


def test_a_sum_of_counts_that_cannot_be_is_refused(keys: Path, tmp_path: Path) -> None:
    from common.secagg.pipeline import Parcel, Terms, open_steps, open_sum
    from common.secagg.protocol import Attempt

    rounds = load_config({"rounds": {"protection": "masked", "weights": "count"}}).rounds
    layout = wire.Layout.of({"a": (4,)})
    terms = Terms(rounds, layout, Attempt(1, "aa", dict.fromkeys(SITES[:3], 1.0)))
    for count, good in ((2, True), (2048, True), (1, False), (2049, False), (-5, False)):
        words = Packing().pack(np.array([0, 0, 0, 0, count]))
        parcel = Parcel(words, survivors=SITES[:2])
        if good:
            assert open_sum(open_steps(terms), parcel).tolist() == [0.0] * 4
        else:
            with pytest.raises(WireError, match="counts is impossible"):
                open_sum(open_steps(terms), parcel)


class _Listening(LocalGrid):
    """Keeps what the coordinator gets."""

    def __init__(self, *told: Any) -> None:
        super().__init__(*told)
        self.heard: list[Message] = []

    def pull_messages(self, message_ids: Any) -> Any:
        found = list(super().pull_messages(message_ids))
        self.heard += found
        return found


def test_under_ckks_no_decrypted_sum_reaches_the_coordinator(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path / "a", keys, 4, protection="ckks", release="sites", count=3)
    grid = run_league(run, _gone, _Listening)
    plain = make_league(tmp_path / "plain", keys, 4, protection="plain", quantise=False, count=3)
    run_league(plain, _gone)
    models = [load_file(run.site_out(name) / "release" / "model.safetensors") for name in SITES[:4]]
    first, truth = models[0], load_file(plain.release / "model.safetensors")
    for name, tensor in truth.items():
        np.testing.assert_allclose(first[name], tensor, atol=1e-5)
        assert len({model[name].tobytes() for model in models}) == 1
    # Nothing in clear lies at the coordinator, and nothing that came to it was a vector of floats.
    assert not run.release.exists()
    assert isinstance(grid, _Listening)
    for message in grid.heard:
        if not message.has_content():
            continue
        for record in message.content.array_records.values():
            assert {array.dtype for array in record.values()} <= {"uint8"} or _is_first_model(record)
        for figures in message.content.metric_records.values():
            assert all(round(float(value), 3) == value for value in figures.values())
    held = b"".join(path.read_bytes() for path in sorted(run.state.rglob("*")) if path.is_file())
    last = np.concatenate([first[name].ravel() for name in ("first", "second")])
    assert last[: SIZE // 2].tobytes() not in held
    assert last[100:104].tobytes() not in held


def _is_first_model(record: Any) -> bool:
    """What everybody draws from the contract's seed tells nothing."""
    [array] = record.values()
    return bool(array.data == NoopSite("s0", 0, SIZE).initial().tobytes())


def test_under_ckks_a_site_refuses_to_give_the_model(keys: Path, tmp_path: Path) -> None:
    [site, *_] = secagg_sites(tmp_path, keys, 3, protection="ckks", release="sites")
    from clients.secagg.messages import answer_step

    with pytest.raises(WireError, match="leaves the release to the sites"):
        answer_step(site, "release", wire.Header("r"), RecordDict(), tmp_path)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "ckks-release": ({"protection": "ckks"}, "may not get the model"),
    "ckks-count": ({"protection": "ckks", "release": "sites", "weights": "count"}, "sums floats"),
    "sites-plain": ({"release": "sites", "protection": "plain"}, "holds the model anyway"),
    "count-plain": ({"weights": "count", "protection": "plain"}, "can't be protected"),
    "count-large": ({"protection": "he", "weights": "count", "count_bound": 1 << 20}, "don't fit"),
    "groups-he": ({"protection": "he", "groups": 2}, "he\\+masked only"),
    "median-hidden": ({"protection": "he+masked", "aggregator": "median"}, "looks at each update"),
    "fields": ({"field_bits": 23}, "don't fit a word"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(case: str) -> None:
    rounds, reason = CONTRADICTIONS[case]
    with pytest.raises(ConfigError, match=reason):
        load_config({"rounds": rounds})


def test_there_is_no_guard_without_figures() -> None:
    with pytest.raises(ConfigError, match="no guard over the rounds"):
        load_config({"privacy": {"mode": "user"}, "rounds": {"worst_fall": 0.05}})


def test_he_with_release_to_sites_leaves_the_coordinator_nothing(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 3, protection="he+masked", release="sites", count=1, colluding_sites=0)
    run_league(run)
    assert not run.release.exists()
    facts = read_json(run.site_out("s1") / "release" / "config.json")
    assert facts["sites"] == SITES[:3]
    assert json.dumps(facts["settings"])
