"""The league's configuration: one frozen, hashed object that every party agrees on.

Invariant: equal digests mean equal settings. The digest goes into every checkpoint, message and report, so a
run can't be resumed, and a site can't join, under other settings than the ones it was started with.

>>> LeagueConfig().digest() == LeagueConfig(seed=LeagueConfig().seed).digest()
True
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EncoderKind = Literal["frozen", "scratch"]
AdapterKind = Literal["mlp", "linear"]
ServerOptimiser = Literal["average", "momentum", "adam"]
Protection = Literal["plain", "masked", "he", "he+masked", "ckks"]
PrivacyMode = Literal["off", "user", "record", "distributed", "site"]
Aggregator = Literal["mean", "median", "trimmed_mean", "krum", "norm_bound"]
WeightRule = Literal["sqrt_users", "users", "equal", "count"]
Backend = Literal["seal", "tenseal"]
Rounding = Literal["nearest", "stochastic"]
ReleaseTo = Literal["coordinator", "sites"]


class Settings(BaseModel):
    """Base of all settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Settings):
    """What is trained: `common.models`. Sizes are numbers of features."""

    encoders: EncoderKind = "frozen"
    adapter: AdapterKind = Field(
        "mlp", description="linear: a model of few numbers, for differential privacy"
    )
    text: bool = True
    image: bool = True
    projection_dim: int = Field(192, ge=16, le=1280)
    item_dim: int = Field(64, ge=8, le=512)
    hidden_dim: int = Field(128, ge=8, le=1024)
    history_length: int = Field(20, ge=1, le=200)
    dropout: float = Field(0.2, ge=0, lt=1)
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    categories: tuple[str, ...] = ()
    token_buckets: int = Field(8192, ge=256, le=1 << 18)
    image_size: int = Field(32, ge=16, le=224, description="side in pixels that the scratch encoder reads")
    frozen_image_size: int = Field(
        128, ge=32, le=224, description="side in pixels that the frozen encoder reads"
    )
    token_length: int = Field(32, ge=4, le=512)


class TrainingConfig(Settings):
    """How a site trains in one round."""

    batch_size: int = Field(256, ge=1)
    epochs_per_round: int = Field(1, ge=1)
    min_steps_per_round: int = Field(20, ge=1, description="small sites repeat epochs up to this many steps")
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    negatives: int = Field(512, ge=1)
    targets_per_user: int = Field(4, ge=1)
    reviews_per_user: int = Field(4, ge=0)
    popularity_offset: float = Field(1.0, ge=0, le=1)
    behaviour_weight: float = Field(0.3, ge=0)
    sentiment_weight: float = Field(0.1, ge=0)
    category_weight: float = Field(0.1, ge=0)
    alignment_weight: float = Field(0.05, ge=0)
    fine_tune_epochs: int = Field(2, ge=0)
    max_users: int = Field(0, ge=0, description="0: all; else train on this many users a site")
    local_epochs: int = Field(0, ge=0, description="0: as many as the federation's rounds")


class PrivacyConfig(Settings):
    """What a site guarantees to each of its users, and how it pays for it: `common.privacy` and `clients.ledger`."""

    mode: PrivacyMode = "off"
    epsilon: float = Field(8.0, gt=0, le=50, description="a site's whole budget for one run")
    delta: float = Field(1e-5, gt=0, le=1e-3)
    clip: float = Field(1.0, gt=0, description="largest norm of one user's gradient")
    sample_rate: float = Field(1.0, gt=0, le=1, description="each user's chance to enter a step; public")
    steps_per_round: int = Field(1, ge=1)
    learning_rate: float = Field(0.3, gt=0)
    expected_users: int = Field(
        100, ge=1, description="a public guess of a site's users in a step: what the noisy sum is divided by"
    )
    negatives: int = Field(32, ge=1, description="items drawn for each user; batches share none")
    physical_batch: int = Field(256, ge=1, description="users at once in memory; changes no result")
    honest_sites: int = Field(
        3, ge=2, description="distributed: sites whose noise counts; a round with fewer is refused"
    )
    record_days: int = Field(1, ge=1, description="record: what one user did in so many days is one record")
    records_per_user: int = Field(
        30,
        ge=1,
        description="record: only so many spans of record_days before the validation window are used",
    )
    seeded: bool = Field(
        False, description="simulation only: chance from the league's seed, and so no guarantee at all"
    )


class RoundsConfig(Settings):
    """How the coordinator runs the rounds: `server.rounds`. Times in seconds."""

    count: int = Field(12, ge=1, le=10_000)
    fraction: float = Field(1.0, gt=0, le=1)
    quorum: float = Field(0.5, gt=0, le=1)
    deadline_s: float = Field(3600.0, gt=0)
    optimiser: ServerOptimiser = "momentum"
    server_learning_rate: float = Field(1.0, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)
    weights: WeightRule = "sqrt_users"
    max_update_norm: float = Field(1e4, gt=0)
    protection: Protection = "he+masked"
    quantise: bool = Field(
        False, description="sum whole numbers under plain too, as the other protections do"
    )
    clip_range: float = Field(1.0, gt=0, description="each number of an update is clipped to ± this")
    field_bits: int = Field(22, ge=8, le=40)
    fields: int = Field(2, ge=1, le=5, description="numbers that share one word of 44 bits")
    rounding: Rounding = "nearest"
    count_bound: int = Field(
        1024, ge=1, description="under weights = count: the most users that a site counts for, itself unseen"
    )
    backend: Backend = Field("seal", description="tenseal: BFV through the public interface, twice the bytes")
    ckks: str = Field(
        "8192/60-40-40/40",
        pattern=r"^\d{4,5}/\d{2}(-\d{2}){1,4}/\d{2}$",
        description="degree/bits of the primes/bits of the scale; the default is NVFlare's",
    )
    release: ReleaseTo = Field("coordinator", description="who gets the trained model in clear")
    colluding_sites: int = Field(
        1, ge=0, description="sites that may help the coordinator; decides who must survive"
    )
    rotate_every: int = Field(0, ge=0, description="rounds that one key of the league serves; 0: all of them")
    aggregator: Aggregator = "mean"
    malicious_sites: int = Field(
        1,
        ge=0,
        description="sites that may lie: what trimmed_mean, krum and the guard stand, and whom refused groups may name",
    )
    groups: int = Field(
        1,
        ge=1,
        description="under he+masked: random groups of 3 sites or more; the median of their sums counts",
    )
    worst_fall: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a round is undone where sites' figures fall by more than this part of the best; 0: never",
    )

    @property
    def encrypted(self) -> bool:
        """Whether updates travel as ciphertexts, and the model in clear stays at the sites during the run."""
        return self.protection in ("he", "he+masked", "ckks")

    @property
    def masked(self) -> bool:
        """Whether updates travel under masks."""
        return self.protection in ("masked", "he+masked")


class SplitConfig(Settings):
    """Instants that part train, validation and test; ISO dates in UTC. Empty: the site's own, else by its time span."""

    validation_from: str = ""
    test_from: str = ""
    test_until: str = ""


class LeagueConfig(Settings):
    """Everything that the parties of one run agree on."""

    name: str = "league"
    seed: int = Field(0, ge=0, lt=1 << 31)
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    rounds: RoundsConfig = RoundsConfig()
    split: SplitConfig = SplitConfig()

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, as 64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
