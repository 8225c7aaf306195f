"""Protected leagues under stress: killed, thinned out, rekeyed, poisoned; the sums stay those of plain."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from safetensors.numpy import load_file

from clients.secagg.site import SecaggSite
from clients.training.noop import NoopSite
from common.crypto.container import open_container, sign_container
from common.errors import QuorumError, WireError
from common.files import PROJECT, read_lines
from common.protocol import wire
from common.secagg.masks import SLICE_BYTES
from common.secagg.protocol import Attempt, upload_facts
from tests.faults.leagues import (
    SITES,
    SIZE,
    make_keys,
    make_league,
    model_of,
    noise_from,
    run_league,
    secagg_sites,
)
from tests.server.secagg.hostile import damaged

PROGRAM = """
import sys
from pathlib import Path
from simulations.engines.engine import run_league

settings = {"job": "noop", "noop-size": 3000, "noop-pause-s": 0.01, "progress": "silent"}
run_league(Path(sys.argv[1]), "local", 1, settings)
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each site's keys."""
    return make_keys(tmp_path_factory.mktemp("keys"))


class Droppers:
    """Each round some sites are gone from one step of it on, drawn from a seed, and back in the next round."""

    STEPS = ("train", "agree", "reveal", "apply")

    def __init__(self, sites: int, gone: int, rounds: int, seed: int) -> None:
        chance = random.Random(seed)
        self._from = {
            (round_, name): chance.randrange(len(self.STEPS))
            for round_ in range(1, rounds + 1)
            for name in chance.sample(SITES[:sites], gone)
        }
        self._round = 0
        self._missed: set[tuple[int, str]] = set()

    def __call__(self, site: str, message: Message, context: Context) -> Message | None:
        header = wire.read_header(message.content, where="test")
        kind = message.metadata.message_type
        step = "train" if kind == wire.TRAIN else str(header.plan.get("step", ""))
        if kind == wire.TRAIN:
            self._round = header.round
        if step == "apply" and header.plan["round"] != self._round:
            return None  # an earlier sum, which a site that is back asks for
        start = self._from.get((self._round, site))
        if start is None or step not in self.STEPS or self.STEPS.index(step) < start:
            return None
        if step == "apply":
            if (self._round, site) in self._missed:
                return None  # it's back, before the next round
            self._missed.add((self._round, site))
        return Message(Error(9, "gone"), reply_to=message)


@pytest.mark.parametrize(
    ("sites", "gone", "rounds"),
    [(5, 1, 3), pytest.param(10, 3, 20, marks=pytest.mark.slow)],
)
def test_sites_that_drop_at_random_points_leave_the_exact_sum_of_the_survivors(
    sites: int, gone: int, rounds: int, keys: Path, tmp_path: Path
) -> None:
    runs = {}
    for protection in ("plain", "he+masked"):
        runs[protection] = make_league(
            tmp_path / protection, keys, sites, count=rounds, protection=protection
        )
        run_league(runs[protection], Droppers(sites, gone, rounds, seed=3))
    lines = {name: read_lines(run.rounds_file) for name, run in runs.items()}
    assert [set(line["weights"]) for line in lines["plain"]] == [
        set(line["weights"]) for line in lines["he+masked"]
    ]
    assert min(len(line["weights"]) for line in lines["plain"]) < sites
    assert model_of(runs["he+masked"].release) == model_of(runs["plain"].release)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_model_of_plain(
    kills: int, keys: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    run = make_league(tmp_path / "a", keys, 4, count=6, protection="he+masked", rotate_every=2)
    plain = make_league(tmp_path / "plain", keys, 4, count=6, protection="plain", rotate_every=2)
    run_league(plain)
    chance = random.Random(7)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    for kill in range(kills + 1):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(run.root)], env=environment, start_new_session=True
            )
        )
        while started[-1].poll() is None and kill < kills:
            if len(read_lines(run.rounds_file)) > 5 * kill // kills:
                time.sleep(chance.uniform(0.0, 0.1))
                os.killpg(started[-1].pid, signal.SIGKILL)
                started[-1].wait()
        if kill == kills:
            assert started[-1].wait(timeout=120) == 0
    assert model_of(run.release) == model_of(plain.release)
    assert [line["round"] for line in read_lines(run.rounds_file)] == list(range(1, 7))


def test_the_leagues_key_is_new_after_so_many_rounds_and_a_site_away_catches_up(
    keys: Path, tmp_path: Path
) -> None:
    run = make_league(tmp_path / "a", keys, 4, count=5, protection="he+masked", rotate_every=2)
    plain = make_league(tmp_path / "plain", keys, 4, count=5, protection="plain", rotate_every=2)

    def away(site: str, message: Message, context: Context) -> Message | None:
        header = wire.read_header(message.content, where="test")
        step = header.plan.get("step", "")
        rekeyed = (tmp_path / "a" / "sites" / "s0" / "private" / "wrapped-0002.json").exists()
        absent = site == "s2" and (header.round == 3 and message.metadata.message_type == wire.TRAIN)
        missed = site == "s2" and step == "install" and rekeyed and not seen
        if missed:
            seen.append(step)
        return Message(Error(9, "gone"), reply_to=message) if absent or missed else None

    seen: list[str] = []
    run_league(run, away)
    run_league(plain, lambda *told: away(*told) if told[1].metadata.message_type == wire.TRAIN else None)
    private = tmp_path / "a" / "sites" / "s2" / "private"
    secrets = [(private / f"league-{epoch:04d}.key").read_bytes() for epoch in (1, 2, 3)]
    assert seen == ["install"]
    assert len(set(secrets)) == 3
    assert model_of(run.release) == model_of(plain.release)


def test_a_site_signs_one_survivor_set_a_round_whatever_the_attempt(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 5, protection="he+masked")
    update = np.zeros(SIZE, dtype=np.float32)
    for nonce in ("aa", "bb", "cc"):
        attempt = Attempt(1, nonce, dict.fromkeys(SITES[:5], 1.0))
        sites[1].protect(update, attempt)
        asked = {"attempt": attempt.to_json(), "survivors": SITES[:5]}
        if nonce != "bb":  # a resumed round may ask for the same sum again
            assert sites[1].answer("agree", asked)["signature"]
        # A sum of one site less, beside the first one, would be that site's update.
        with pytest.raises(WireError, match="signed another survivor set"):
            sites[1].answer("agree", {**asked, "survivors": SITES[:4]})


def test_a_sum_that_sites_refuse_undoes_the_round_and_the_run_goes_on(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 4, count=2, protection="he+masked")
    run_league(run, noise_from("s1", run))
    lines = read_lines(run.rounds_file)
    assert ["the sum is refused" in line["undone"] for line in lines] == [True, True]
    first = NoopSite("s0", 0, SIZE).initial()
    found = np.concatenate([part.ravel() for part in load_file(run.release / "model.safetensors").values()])
    assert found.tobytes() == first.tobytes()


def test_of_random_groups_the_poisoned_one_is_left_out(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 9, count=2, protection="he+masked", groups=3, colluding_sites=0)
    run_league(run, noise_from("s1", run))
    lines = read_lines(run.rounds_file)
    assert [(line["groups_refused"], line["undone"]) for line in lines] == [(1, ""), (1, "")]
    models = [run.site_out(n) / "private" / "model" / "round-0002.safetensors" for n in SITES[:9]]
    assert len({path.read_bytes() for path in models}) == 1
    assert lines[1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("protection", ["plain", "he+masked"])
def test_a_round_that_harms_is_undone_where_the_contract_says_so(
    protection: str, keys: Path, tmp_path: Path
) -> None:
    settings = {
        "count": 2,
        "protection": protection,
        "server_learning_rate": 40.0,
    }  # leaps far past the target
    run = make_league(tmp_path, keys, 4, worst_fall=0.2, **settings)
    run_league(run)
    lines = read_lines(run.rounds_file)
    assert all("fell by" in line["undone"] for line in lines)
    assert lines[0]["loss"] == lines[1]["loss"]


def test_a_group_of_too_few_survivors_is_left_out_alone(keys: Path, tmp_path: Path) -> None:
    def gone(site: str, message: Message, context: Context) -> Message | None:
        hit = site in ("s1", "s2") and message.metadata.message_type == wire.TRAIN
        return Message(Error(9, "gone"), reply_to=message) if hit else None

    run = make_league(tmp_path / "a", keys, 9, count=1, protection="he+masked", groups=3, colluding_sites=0)
    run_league(run, gone)
    [line] = read_lines(run.rounds_file)
    assert {"s1", "s2"} <= {entry["site"] for entry in line["quarantined"]}
    alone = make_league(tmp_path / "b", keys, 4, count=1, protection="he+masked")
    with pytest.raises(QuorumError, match="masks open from"):
        run_league(alone, gone)


def test_an_insiders_hostile_ciphertext_is_quarantined_by_name_and_the_round_goes_on(
    keys: Path, tmp_path: Path
) -> None:
    """Signed as the contract asks, so that only the process that parses it stands between it and the sum."""
    run = make_league(tmp_path, keys, 5, count=2, protection="he+masked")
    chance = random.Random(5)

    def hostile(site: str, message: Message, context: Context) -> Message | None:
        if site != "s2" or message.metadata.message_type != wire.TRAIN:
            return None
        header, config = wire.read_header(message.content, where="test"), run.config()
        sealed = SecaggSite(run.site_out(site) / "private", site, config, NoopSite(site, config.seed, SIZE))
        attempt, layout = Attempt.of(str(header.plan["attempt"])), NoopSite(site, config.seed, SIZE).layout()
        facts = upload_facts(config.digest(), config.rounds, layout, attempt, site)
        data = sealed.protect(np.zeros(SIZE, dtype=np.float32), attempt)
        signer = bytes.fromhex(sealed.offer()["ed25519"])
        parts = [bytes(part) for part in open_container(data, facts, signer, where="test")]
        parts[0] = damaged(parts[:1], ("random", "sizes")[header.round - 1], chance)[0]
        parts[0] = parts[0][:32_000].ljust(32_000, b"\0")
        blob = np.frombuffer(sign_container(facts, parts, sealed._keys.sign), np.uint8)
        answer = wire.Header(
            header.run, header.round, site, layout.digest, header.protection, {"weight": 1.0}
        )
        return Message(wire.pack(answer, vector=blob, metrics={}), reply_to=message)

    run_league(run, hostile)
    lines = read_lines(run.rounds_file)
    assert [[each["site"] for each in line["quarantined"]] for line in lines] == [["s2"], ["s2"]]
    assert all("ciphertext" in line["quarantined"][0]["reason"] for line in lines)
    assert [len(line["weights"]) for line in lines] == [4, 4]


def test_only_shares_that_have_to_be_revealed_are_brought_back(keys: Path, tmp_path: Path) -> None:
    """All shares of all would take the third power of the sites in the coordinator's memory."""
    run, seen = make_league(tmp_path, keys, 6, count=1, protection="masked"), list[dict[str, str]]()

    def fault(site: str, message: Message, context: Context) -> Message | None:
        header = wire.read_header(message.content, where="test")
        if header.plan.get("step") == "reveal":
            seen.append(json.loads(wire.decode_blob(message.content, 1 << 20, where="test"))["shares"])
        gone = site == "s4" and message.metadata.message_type == wire.TRAIN
        return Message(Error(9, "gone"), reply_to=message) if gone else None

    run_league(run, fault)
    assert len(seen) == 5
    for place, shares in enumerate(seen):
        # Each survivor's own mask and its mask with the dropped one; of its own shares a site holds a copy.
        lengths = {name: len(bytes.fromhex(sealed)) for name, sealed in shares.items()}
        own = [name for name in SITES[:6] if name != "s4"][place]
        assert lengths == {n: 0 if n == own else 2 * SLICE_BYTES for n in SITES[:6] if n != "s4"}
