"""Leagues whose sites share their noise: all of it is in the sum, and a round with too little is refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict, UserConfig
from safetensors.numpy import load_file

from clients.app import app as honest
from clients.secagg.shared_noise import noisy_integers
from clients.secagg.site import SecaggSite
from clients.training.noop import NoopSite
from common.errors import PrivacyError, QuorumError
from common.files import read_lines
from common.flower.simulation import COORDINATOR, RUN_ID
from common.privacy.guarantee import noise_multiplier
from common.privacy.shared_noise import noise_share
from common.protocol import wire
from common.secagg.protocol import Attempt
from common.settings.config import LeagueConfig
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.app import app as coordinator
from simulations.engines.local import LocalGrid

SITES = ["amber", "birch", "cedar", "delta", "ember"]
SIZE = 9000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in SITES:
        SecaggSite(folder / name, name, load_config({}), NoopSite(name, 0, 1))
    return folder


def league(mode: str = "distributed", protection: str = "he+masked", honest_sites: int = 3) -> LeagueConfig:
    rounds = {"count": 1, "protection": protection, "quantise": True, "clip_range": 2.0, "weights": "equal"}
    rounds |= {"optimiser": "average", "quorum": 0.4}
    privacy = {"mode": mode, "epsilon": 8.0, "honest_sites": honest_sites}
    if mode == "site":
        privacy |= {"clip": 0.2}
    return load_config({"rounds": rounds, "privacy": privacy, "model": {"tower": mode != "site"}})


def run(
    folder: Path, keys: Path, config: LeagueConfig, absent: tuple[str, ...] = (),
    through: Callable[[Message, Context], Message] = honest,
) -> np.ndarray:  # fmt: skip
    for name in SITES:
        private = folder / "sites" / name / "private"
        private.mkdir(parents=True, mode=0o700)
        shutil.copy(keys / name / "keys.json", private)
        home = folder / "homes" / name
        home.mkdir(parents=True)
        (home / "site.toml").write_text(f'name = "{name}"\n[policy]\nledger = "run"\n', encoding="utf-8")
    entries = [SiteEntry(name, name.title(), str(folder / "homes" / name)) for name in SITES]
    RunFolder(folder).create(config, entries)

    def app(message: Message, context: Context) -> Message:
        gone = message.metadata.message_type == wire.TRAIN
        if gone and SITES[int(context.node_config["partition-id"])] in absent:
            return Message(Error(9, "gone"), reply_to=message)
        return through(message, context)

    settings: UserConfig = {"run-dir": str(folder), "job": "noop", "noop-size": SIZE, "progress": "silent"}
    coordinator(LocalGrid(app, 5, settings), Context(RUN_ID, COORDINATOR, {}, RecordDict(), settings))
    tensors = load_file(folder / "release" / "model.safetensors")
    return np.concatenate([tensors[name] for name in sorted(tensors)])


@pytest.mark.parametrize(
    ("protection", "mode"),
    [("he+masked", "distributed"), ("he+masked", "site"),
     *(pytest.param(p, "distributed", marks=pytest.mark.slow) for p in ("masked", "he"))],
)  # fmt: skip
def test_the_model_holds_the_sum_of_all_noise(protection: str, mode: str, keys: Path, tmp_path: Path) -> None:
    config = league(mode, protection)
    noisy = run(tmp_path / "noisy", keys, config)
    exact = run(tmp_path / "exact", keys, league("off", protection))
    attempt = Attempt(1, "", dict.fromkeys(SITES, 1.0))
    scale = attempt.scale(config.rounds)
    part = noise_share(config, noise_multiplier(config), size=SIZE, sites=5, scale=scale)
    expected = part.deviation * math.sqrt(5) / scale
    difference = noisy - exact
    assert abs(difference.std() / expected - 1) < 7 / math.sqrt(2 * SIZE)
    assert abs(difference.mean()) < 7 * expected / math.sqrt(SIZE)


@pytest.mark.parametrize("protection", ["he+masked", pytest.param("he", marks=pytest.mark.slow)])
def test_a_round_whose_sum_holds_too_little_noise_is_refused(
    protection: str, keys: Path, tmp_path: Path
) -> None:
    run(tmp_path / "enough", keys, league(protection=protection), absent=("birch",))
    assert len(read_lines(RunFolder(tmp_path / "enough").rounds_file)[0]["weights"]) == 4
    config = league(protection=protection, honest_sites=4)
    if protection == "he":  # without masks the sum is made, and no site takes it
        before = run(tmp_path / "few", keys, config, absent=("birch",))
        assert "too little noise" in read_lines(RunFolder(tmp_path / "few").rounds_file)[0]["undone"]
        assert np.array_equal(np.sort(before), np.sort(NoopSite("amber", 0, SIZE).initial()))
        return
    with pytest.raises(QuorumError, match="too little noise"):
        run(tmp_path / "few", keys, config, absent=("birch",))


def test_a_round_is_made_once_for_one_cohort(tmp_path: Path) -> None:
    config, update = league(), np.linspace(-0.1, 0.1, 64, dtype=np.float32)

    def made(names: list[str], weights: Callable[[str], float] = lambda name: 1.0) -> np.ndarray:
        attempt = Attempt(1, "n", {name: weights(name) for name in names})
        return noisy_integers(config, update, attempt, tmp_path / "updates", "amber", lambda: None)

    first = made(SITES)
    assert np.array_equal(first, made(SITES))
    with pytest.raises(PrivacyError, match="another cohort"):
        made(SITES[:4])
    with pytest.raises(PrivacyError, match="unequal weight"):
        made(SITES, lambda name: 2.0 if name == "birch" else 1.0)
    with pytest.raises(QuorumError, match="too little noise"):
        made(SITES[:3])
    (path,) = (tmp_path / "updates").glob("*.whole")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PrivacyError, match="damaged"):
        made(SITES)


@pytest.mark.parametrize("gone", ["whole", "update"])
def test_a_second_draw_for_a_round_is_paid_or_refused(gone: str, keys: Path, tmp_path: Path) -> None:
    """One site answers its order again, once what it kept is gone: the debit of the first answer pays for no other."""
    second: list[Message] = []
    private = tmp_path / "sites" / SITES[0] / "private"

    def forgetful(message: Message, context: Context) -> Message:
        answer = honest(message, context)
        if message.metadata.message_type == wire.TRAIN and context.node_config["partition-id"] == 0:
            (private / "updates" / f"round-00001.{gone}").unlink()
            second.append(honest(message, context))
        return answer

    run(tmp_path, keys, league(protection="he"), through=forgetful)
    assert "privacy budget is spent" in second[0].error.reason  # the run holds one round
    lines = read_lines(private / "ledger" / "ledger.jsonl")
    assert [line["kind"] for line in lines] == ["opened", "debit", "told"]


def test_two_runs_never_share_their_noise(tmp_path: Path) -> None:
    config, attempt = league(), Attempt(1, "n", dict.fromkeys(SITES, 1.0))
    update = np.zeros(500, dtype=np.float32)
    one, two = (
        noisy_integers(config, update, attempt, tmp_path / name, "amber", lambda: None) for name in ("a", "b")
    )
    assert np.mean(one == two) < 0.02
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.3
