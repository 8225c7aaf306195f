"""Protected leagues end to end: the same model as plain to the last bit, whoever drops, lies or is killed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict, UserConfig

from clients.app import app as honest
from clients.secagg.site import SecaggSite
from clients.secagg.sum_order import SumOrder
from clients.training.noop import NoopSite
from common.crypto.fields import MODULUS, Packing, Words
from common.errors import QuorumError, WireError
from common.files import read_lines
from common.flower.simulation import COORDINATOR, RUN_ID
from common.he import bfv
from common.protocol import wire
from common.secagg import masks
from common.secagg.protocol import Attempt, GroupSum
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.app import app as coordinator
from simulations.engines.local import LocalGrid

SITES = ["amber", "birch", "cedar", "delta", "ember"]
SIZE = 9000
PROTECTED = ["masked", "he", "he+masked"]
Break = Callable[[str, Message], Message | None]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each site's keys: RSA keys take most of a test's time."""
    folder, config = tmp_path_factory.mktemp("keys"), load_config({})
    for name in SITES:
        SecaggSite(folder / name, name, config, NoopSite(name, 0, 1))
    return folder


@pytest.fixture(autouse=True)
def _sites_with_keys(keys: Path, tmp_path: Path) -> None:
    """Every folder that a test of this file may use for a run or for sites has its keys."""
    for root in [tmp_path, *(tmp_path / name for name in ("plain", "a", "b", *PROTECTED))]:
        for name in SITES:
            for private in (root / "sites" / name / "private", root / name):
                private.mkdir(parents=True, mode=0o700)
                shutil.copy(keys / name / "keys.json", private)


def _run(folder: Path, protection: str, fault: Break | None = None, sites: int = 5, rounds: int = 2) -> None:
    run, names = RunFolder(folder), SITES[:sites]
    settings = {"count": rounds, "protection": protection, "quantise": True, "clip_range": 2.0}
    if not run.config_file.exists():
        run.create(
            load_config({"rounds": settings}), [SiteEntry(name, name.title(), "nowhere") for name in names]
        )

    def app(message: Message, context: Context) -> Message:
        site = names[int(context.node_config["partition-id"])]
        broken = fault(site, message) if fault else None
        return honest(message, context) if broken is None else broken

    run_config: UserConfig = {"run-dir": str(folder), "job": "noop", "noop-size": SIZE, "progress": "silent"}
    coordinator(LocalGrid(app, sites, run_config), Context(RUN_ID, COORDINATOR, {}, RecordDict(), run_config))


def _model(folder: Path) -> bytes:
    return (folder / "release" / "model.safetensors").read_bytes()


def _absent(*names: str, round_: int = 2, kind: str = wire.TRAIN, step: str = "") -> Break:
    def fault(site: str, message: Message) -> Message | None:
        header = wire.read_header(message.content, where="test")
        hit = message.metadata.message_type == kind and header.plan.get("step", "") == step
        if site in names and hit and (step or header.round == round_):
            return Message(Error(9, "gone"), reply_to=message)
        return None

    return fault


@pytest.mark.parametrize(
    ("fault", "protections"),
    [
        pytest.param(None, PROTECTED, id="all", marks=pytest.mark.slow),
        pytest.param(_absent("birch"), ["he+masked"], id="one"),
        pytest.param(_absent("birch"), PROTECTED, id="one-slow", marks=pytest.mark.slow),
        pytest.param(_absent("amber"), PROTECTED, id="steward", marks=pytest.mark.slow),
    ],
)
def test_every_protection_gives_the_model_of_plain_bit_for_bit(
    fault: Break | None, protections: list[str], tmp_path: Path
) -> None:
    _run(tmp_path / "plain", "plain", fault)
    for protection in protections:
        folder = tmp_path / protection
        _run(folder, protection, fault)
        assert _model(folder) != b""
        one, other = (read_lines(RunFolder(f).rounds_file) for f in (folder, tmp_path / "plain"))
        assert [set(line["weights"]) for line in one] == [set(line["weights"]) for line in other]
        assert _tensors(folder) == _tensors(tmp_path / "plain")


def _tensors(folder: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    found = load_file(folder / "release" / "model.safetensors")
    return {name: tensor.tobytes() for name, tensor in found.items()}


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        _run(tmp_path / "a", "he+masked", rounds=1)
    finally:
        os.umask(old)
    private = tmp_path / "a" / "sites" / "birch" / "private"
    copied = private / "keys.json"
    found = {p: stat.S_IMODE(p.stat().st_mode) for p in [private, *private.rglob("*")] if p != copied}
    assert {p.name for p in found} >= {
        "league-0001.key",
        "attempts.json",
        "own-shares.json",
        "round-0001.safetensors",
    }
    assert {p: mode for p, mode in found.items() if mode != (0o700 if p.is_dir() else 0o600)} == {}


def test_a_site_that_missed_a_sum_catches_up(tmp_path: Path) -> None:
    seen: list[str] = []

    def fault(site: str, message: Message) -> Message | None:
        header = wire.read_header(message.content, where="test")
        if site == "birch" and header.plan.get("step") == "apply" and not seen:
            seen.append(site)
            return Message(Error(9, "gone"), reply_to=message)
        return None

    _run(tmp_path / "a", "he+masked", fault, rounds=3)
    lines = read_lines(RunFolder(tmp_path / "a").rounds_file)
    assert [entry["site"] for line in lines for entry in line["quarantined"]] == ["birch"]
    models = [
        sorted((tmp_path / "a" / "sites" / name / "private" / "model").glob("round-0003.safetensors"))
        for name in SITES
    ]
    assert len({path.read_bytes() for [path] in models}) == 1


def test_a_run_stopped_after_the_sum_was_kept_hands_out_the_same_sum(tmp_path: Path) -> None:
    with pytest.raises(QuorumError):
        _run(tmp_path / "a", "he+masked", _absent(*SITES, kind=wire.SECURE, step="apply"))
    _run(tmp_path / "a", "he+masked")
    _run(tmp_path / "b", "he+masked")
    assert _tensors(tmp_path / "a") == _tensors(tmp_path / "b")


def test_too_few_survivors_open_nothing(tmp_path: Path) -> None:
    with pytest.raises(QuorumError, match="masks open from"):
        _run(tmp_path, "he+masked", _absent("amber", "birch", round_=1), sites=4)


@pytest.mark.parametrize("protection", PROTECTED)
def test_a_damaged_or_replayed_upload_is_quarantined_and_the_round_goes_on(
    protection: str, tmp_path: Path
) -> None:
    kept: list[RecordDict] = []

    def tampered(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if message.metadata.message_type == wire.TRAIN and context.node_config["partition-id"] == 1:
            round_ = wire.read_header(message.content, where="t").round
            data = bytearray(reply.content.array_records[wire.VECTOR][wire.VECTOR].data)
            if round_ == 1:
                kept.append(reply.content)
            elif round_ == 2:
                data = bytearray(kept[0].array_records[wire.VECTOR][wire.VECTOR].data)
            else:
                data[-1000] ^= 4
            if round_ > 1:
                blob = wire.pack(wire.Header("x"), vector=np.frombuffer(bytes(data), np.uint8))
                reply.content[wire.VECTOR] = blob[wire.VECTOR]
        return reply

    run = RunFolder(tmp_path)
    config = load_config({"rounds": {"count": 3, "protection": protection}})
    run.create(config, [SiteEntry(name, name, "x") for name in SITES[:4]])
    run_config: UserConfig = {
        "run-dir": str(tmp_path),
        "job": "noop",
        "noop-size": SIZE,
        "progress": "silent",
    }
    coordinator(
        LocalGrid(tampered, 4, run_config), Context(RUN_ID, COORDINATOR, {}, RecordDict(), run_config)
    )
    reasons = [[e["reason"] for e in line["quarantined"]] for line in read_lines(run.rounds_file)]
    assert reasons == [[], ["the container states another attempt"], ["the signature is not the sender's"]]


def _sites(folder: Path, protection: str, count: int) -> list[SecaggSite]:
    config = load_config({"rounds": {"protection": protection, "clip_range": 0.5}})
    sites = [SecaggSite(folder / n, n, config, NoopSite(n, 0, SIZE)) for n in SITES[:count]]
    bundles = {site.name: site.offer() for site in sites}
    wrapped = sites[0].answer("wrap", {"bundles": bundles, "epoch": 1})
    for site in sites:
        site.answer("install", {"bundles": bundles, "wrapped": wrapped})
    return sites


def test_a_lying_coordinator_and_a_colluding_key_holder_learn_noise(tmp_path: Path) -> None:
    sites = _sites(tmp_path, "he+masked", 4)
    attempt = Attempt(1, "aa", dict.fromkeys(SITES[:4], 1.0))
    update = np.random.default_rng(0).normal(0, 0.1, SIZE).astype(np.float32)
    data = [site.protect(update, attempt) for site in sites][1]
    # The colluder holds the key: decrypt one upload alone, as the coordinator would pass it on.
    scheme = bfv.Scheme()
    start = 10 + int.from_bytes(data[6:10], "big")
    lengths = json.loads(data[10:start])["lengths"]
    words_count = Packing().words(SIZE)
    parts = []
    for length in lengths[: scheme.ciphertexts(words_count)]:
        parts.append(data[start : start + length])
        start += length
    total = scheme.sum(words_count)
    total.add(total.parse(parts, where="attack"))
    key = bfv.Key(scheme, (tmp_path / "delta" / "league-0001.key").read_bytes())
    words = key.decrypt(total.saved(), words_count, where="attack").astype(np.int64)
    words[words > MODULUS // 2] -= MODULUS
    low = ((words + (1 << 21)) & ((1 << 22) - 1)) - (1 << 21)
    for guess in (low, words >> 22):
        hidden = update[: 2 * words_count : 2][: len(guess)]
        # A correlation of noise spreads by 1/√n: six of these, so that chance fails it once in 10⁸.
        assert abs(np.corrcoef(guess, hidden)[0, 1]) < 6 / len(hidden) ** 0.5 < 0.5
    # Handing that upload out as the sum is refused, and so is a second survivor set.
    asked = {"attempt": attempt.to_json(), "survivors": SITES[:4]}
    sites[0].answer("agree", asked)
    with pytest.raises(WireError, match="signed another"):
        sites[0].answer("agree", {**asked, "survivors": SITES[:3]})
    signature = sites[1].answer("agree", asked)["signature"]
    with pytest.raises(WireError, match="1 sites signed"):
        sites[0].answer("reveal", {**asked, "signatures": {"birch": signature}, "shares": {}})
    with pytest.raises(QuorumError, match="masks open from"):
        sites[2].answer("agree", {**asked, "survivors": SITES[1:3]})
    with pytest.raises(WireError, match="earlier attempt"):
        sites[0].protect(update, attempt)
    with pytest.raises(WireError, match="norm is above"):
        sites[0].apply(SumOrder(1, (GroupSum(attempt, SITES[:4], total.saved()),)))


def test_a_lost_upload_may_be_sent_again_as_it_was_and_no_other(tmp_path: Path) -> None:
    sites = _sites(tmp_path, "masked", 4)
    attempt = Attempt(1, "aa", dict.fromkeys(SITES[:4], 1.0))
    update = np.random.default_rng(0).normal(0, 0.1, SIZE).astype(np.float32)
    first = sites[0].protect(update, attempt)
    killed = SecaggSite(tmp_path / SITES[0], SITES[0], sites[0]._config, NoopSite(SITES[0], 0, SIZE))
    assert killed.protect(update, attempt) == first
    with pytest.raises(WireError, match="earlier attempt"):
        killed.protect(update * 2, attempt)
    for site in sites[1:]:
        site.protect(update, attempt)
    sites[0].answer("agree", {"attempt": attempt.to_json(), "survivors": SITES[:4]})
    with pytest.raises(WireError, match="earlier attempt"):
        killed.protect(update, attempt)
    newer = Attempt(1, "bb", dict.fromkeys(SITES[:4], 1.0))
    killed.protect(update, newer)
    with pytest.raises(WireError, match="earlier attempt"):
        killed.protect(update, attempt)


def test_keys_of_a_site_cannot_be_swapped_within_a_run(tmp_path: Path) -> None:
    sites = _sites(tmp_path / "a", "he", 3)
    others = _sites(tmp_path / "other", "he", 3)
    bundles = {site.name: site.offer() for site in [sites[0], *others[1:]]}
    with pytest.raises(WireError, match="changed a site's keys"):
        sites[0].answer("install", {"bundles": bundles, "wrapped": None})


def test_one_decrypted_upload_is_noise_and_the_key_of_another_epoch_opens_nothing() -> None:
    size, names = 500_000, SITES[:4]
    update = np.random.default_rng(0).normal(0, 0.1, size).astype(np.float32)
    words = Packing().pack(np.rint(update * 2**18).astype(np.int64))
    seeds = {name: os.urandom(masks.SEED_BYTES) for name in names if name != "birch"}
    key = bfv.Key(bfv.Scheme())

    def seen(content: Words, reader: bfv.Key) -> Words:
        total = bfv.Scheme().sum(len(words))
        total.add(total.parse(key.encrypt(content), where="attack"))
        return reader.decrypt(total.saved(), len(words), where="attack")

    def correlation(found: Words) -> float:
        shown = found.astype(np.int64)
        shown[shown > MODULUS // 2] -= MODULUS
        low = ((shown + (1 << 21)) & ((1 << 22) - 1)) - (1 << 21)
        return max(
            abs(float(np.corrcoef(guess, update[start::2])[0, 1]))
            for guess, start in ((low, 0), (shown >> 22, 1))
        )

    assert correlation(seen(words, key)) > 0.99  # `he` alone: a key-holder reads what it is handed
    hidden = masks.mask(words, "birch", seeds, os.urandom(masks.SEED_BYTES))
    assert correlation(seen(hidden, key)) < 0.01  # five standard deviations of chance at 250,000 words
    with pytest.raises(WireError, match="can't be decrypted with this key"):
        seen(words, bfv.Key(bfv.Scheme()))
