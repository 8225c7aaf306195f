"""The league's configuration: one frozen, hashed object that every party agrees on.

Invariant: equal digests mean equal settings. The digest goes into every checkpoint, message and report, so a
run can't be resumed, and a site can't join, under other settings than the ones it was started with.

The text under each setting is its description: `hansa init` writes it as a comment and `docs/settings.md` as a table
(`common.settings.describe`; the Chinese ones are in `descriptions.zh.toml`). No description is part of the digest.

>>> LeagueConfig().digest() == LeagueConfig(seed=LeagueConfig().seed).digest()
True
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.canonical import canonical

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


NVFLARE_CKKS = "8192/60-40-40/40"
"""NVFLARE's parameters: degree, bits of the primes, bits of the scale."""


class Settings(BaseModel):
    """Base of all settings: frozen, closed to unknown keys, and described by the text under each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelConfig(Settings):
    """What is trained. Private rounds are those under privacy.mode user, record or distributed."""

    encoders: EncoderKind = "frozen"
    """Where the features of texts and pictures come from. frozen: ready-made encoders, kept as they are. scratch: a
    CNN and an LSTM that the league trains itself; ten to twenty times the CPU time, and for leagues with much data
    only."""
    adapter: AdapterKind = "mlp"
    """How features become the model's own vectors. mlp: a small network. linear: one matrix each, a model of few
    numbers, which differential privacy needs."""
    tower: bool = True
    """Whether the league trains the fusion model of texts and pictures. false: only the small models, some hundred
    numbers, which is where joining pays most; privacy.mode = site needs it."""
    text: bool = True
    """Whether the model reads the products' texts."""
    image: bool = True
    """Whether the model reads the products' pictures. Without them a run starts faster."""
    projection_dim: int = Field(192, ge=16, le=1280)
    """How many of a picture's 1,280 ready-made features are kept. Has no effect on encoders = scratch."""
    item_dim: int = Field(64, ge=8, le=512)
    """Length of the vectors of items and users. A private league takes 16, since noise grows with the model."""
    hidden_dim: int = Field(128, ge=8, le=1024)
    """Width of the hidden layers: of the mlp adapters, and of the behaviour predictor."""
    history_length: int = Field(20, ge=1, le=200)
    """How many of a user's latest events the model reads. Raise it where customers have long histories."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of hidden values that are dropped at random in training, so that the model doesn't learn by heart. Not
    used in private rounds."""
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of items whose text or picture is hidden in training, so that the model copes where one is missing. Not
    used in private rounds or with adapter = linear."""
    categories: tuple[str, ...] = ()
    """Product categories that the model learns to tell. `hansa simulate` fills in the commonest, 64 at most; across
    machines list catalogue words that several sites use."""
    token_buckets: int = Field(8192, ge=256, le=1 << 18)
    """For encoders = scratch: how many numbers stand for words. Words are hashed; with fewer numbers more words
    share one."""
    image_size: int = Field(32, ge=16, le=224)
    """For encoders = scratch: side in pixels of the pictures that the CNN reads."""
    frozen_image_size: int = Field(128, ge=32, le=224)
    """Side in pixels to which pictures are scaled, and which the ready-made encoder reads. Larger pictures show
    more and take longer."""
    token_length: int = Field(32, ge=4, le=512)
    """For encoders = scratch: how many words (or Chinese characters and pairs of them) of a text are read."""


class TrainingConfig(Settings):
    """How a site trains in one round. Private rounds take the number and rate of their steps, and the negatives,
    from [privacy]; what is said of these here then holds for the tuning at home alone."""

    batch_size: int = Field(256, ge=1)
    """Users in one step of training."""
    epochs_per_round: int = Field(1, ge=1)
    """How often a site goes through its users in one round. More needs fewer rounds, but the sites drift further
    apart."""
    min_steps_per_round: int = Field(20, ge=1)
    """Least number of steps in an epoch: a small site goes through its users again until it has as many."""
    learning_rate: float = Field(3e-3, gt=0)
    """Step size of AdamW. It falls towards a tenth over the rounds."""
    weight_decay: float = Field(1e-2, ge=0)
    """How strongly AdamW pulls parameters to zero. Raise it where the model learns by heart."""
    negatives: int = Field(512, ge=1)
    """Items drawn at random in each step, over which the right one has to win. More teach better and take
    longer."""
    targets_per_user: int = Field(4, ge=1)
    """Events of each user that a step learns to foretell. Used in private rounds too."""
    reviews_per_user: int = Field(4, ge=0)
    """Reviews of each user that a step learns satisfaction from; 0: none. Used in private rounds too."""
    popularity_offset: float = Field(1.0, ge=0, le=1)
    """How much an item's popularity at its site counts beside the model's score; 0: not at all."""
    behaviour_weight: float = Field(0.3, ge=0)
    """Weight of the behaviour predictor (purchase intent, next event) in training; the recommender has 1. Used in
    private rounds too, where a league takes 0.1 unless told otherwise."""
    sentiment_weight: float = Field(0.1, ge=0)
    """Weight of telling from a review's text whether its writer was satisfied. Used in private rounds too."""
    category_weight: float = Field(0.1, ge=0)
    """Weight of telling an item's category. Not used in private rounds."""
    alignment_weight: float = Field(0.05, ge=0)
    """Weight of bringing together the vectors of an item's text and picture. Not used in private rounds."""
    fine_tune_epochs: int = Field(2, ge=0)
    """Epochs by which each site tunes the finished model on its own data, at three tenths of the rate; 0: none.
    What is tuned stays at the site."""
    max_users: int = Field(0, ge=0)
    """Learn from the first so many users of each site with an event before the test window; 0: from all. It cuts all
    that is learned from: training, neighbours, popularity, validation; the test asks about everybody. For trials
    with little data, never for differential privacy: whether one user is in then depends on others."""
    local_epochs: int = Field(0, ge=0)
    """Epochs of the model that each site trains alone, for comparison; 0: as many as there are rounds."""


class RankerConfig(Settings):
    """The ranker: what weighs likeness, neighbours, popularity and the other signals. The league learns its weights."""

    strength: float = Field(1.0, gt=0)
    """How firmly the league's weights hold what a site's own rows would change in a round. Smaller: fewer rounds, and
    a small site pulls harder."""
    share: float = Field(0.3, gt=0, lt=1)
    """Under privacy of users: which part of a user's squared clip the small models get, the tower has the rest. Without
    a tower they get all."""


class PrivacyConfig(Settings):
    """What a site guarantees to each of its users, and how it pays for it. Nothing here has an effect with mode =
    off."""

    mode: PrivacyMode = "off"
    """Whom differential privacy protects. off: nobody. user: each user, with noise from each site. distributed:
    each user, with noise that the sites share, which costs less quality. record: what a user did in a span of days.
    site: a whole site, by shared noise; needs model.tower = false and many sites."""
    epsilon: float = Field(8.0, gt=0, le=50)
    """Budget of one run, for each one that mode protects, at each site. The smaller, the stronger the promise, and
    the more noise."""
    delta: float = Field(1e-5, gt=0, le=1e-3)
    """Chance that the promise of epsilon doesn't hold. Keep it far below one divided by the number of users."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of one user's or record's gradient (mode = site: of a site's move). Smaller needs less noise
    and lets each user teach less; private leagues take 0.3 unless told otherwise."""
    sample_rate: float = Field(1.0, gt=0, le=1)
    """Chance of each user to be in a step; public. mode = distributed and site need 1."""
    steps_per_round: int = Field(1, ge=1)
    """Private steps in one round; each costs budget. mode = distributed and site need 1."""
    learning_rate: float = Field(0.3, gt=0)
    """Step size of private training. `hansa simulate` without a settings file computes it from size and noise; a
    settings file should name it, and `hansa init --private` takes 2."""
    expected_users: int = Field(100, ge=1)
    """A public guess of how many users of one site are in a step; the noisy sum is divided by it."""
    negatives: int = Field(32, ge=1)
    """Items drawn at random for each user in a private step. No two users share them."""
    physical_batch: int = Field(256, ge=1)
    """Users computed at once. Lower it where memory is short; it has no part in what is learned."""
    honest_sites: int = Field(3, ge=2)
    """For mode = distributed and site: sites whose noise the guarantee counts on. A round with fewer than these and
    rounds.colluding_sites together is refused."""
    record_days: int = Field(1, ge=1)
    """For mode = record: what one user did in so many days is one record."""
    records_per_user: int = Field(30, ge=1)
    """For mode = record: only so many spans of record_days before the validation window are used."""
    seeded: bool = False
    """For simulations alone: noise comes from the league's seed, so it can be repeated, and nothing is promised. A
    deployed site refuses it."""


class RoundsConfig(Settings):
    """How the rounds are run, and how updates travel. Times in seconds."""

    count: int = Field(12, ge=1, le=10_000)
    """Rounds of one run. Under differential privacy more rounds mean more noise in each."""
    fraction: float = Field(1.0, gt=0, le=1)
    """Share of the sites that train in each round; who, is drawn from the public seed."""
    quorum: float = Field(0.5, gt=0, le=1)
    """Share of a round's sites that have to answer well. With fewer the run stops; it keeps its rounds and can be
    resumed."""
    deadline_s: float = Field(3600.0, gt=0)
    """Seconds that one round may take. Who hasn't answered by then is left out of it. Raise it for slow sites or
    lines."""
    optimiser: ServerOptimiser = "momentum"
    """How the mean of all updates moves the model: average (FedAvg), momentum (FedAvgM) or adam (FedAdam)."""
    server_learning_rate: float = Field(1.0, gt=0)
    """Factor on that move. Lower it where rounds make the model worse."""
    momentum: float = Field(0.5, ge=0, lt=1)
    """How much of the earlier moves is kept, for optimiser = momentum or adam."""
    weights: WeightRule = "sqrt_users"
    """How much each site counts. equal: all the same. users, sqrt_users: by its users or their root, told to half
    an octave. count: by its users up to count_bound, which travel protected. Under differential privacy sites tell
    no sizes, and all count the same."""
    max_update_norm: float = Field(1e4, gt=0)
    """Largest norm of an update. With protection = plain the coordinator refuses a longer one; else each site
    shortens its own, and a sum that is longer is refused."""
    protection: Protection = "he+masked"
    """How updates travel. plain: the coordinator reads each. masked: it reads sums. he: it reads neither, unless a
    site helps it. he+masked: then it reads sums. ckks: sums of floats, for comparison; the coordinator may not get
    the model."""
    quantise: bool = False
    """For protection = plain: sum whole numbers, as the other protections do."""
    clip_range: float = Field(1.0, gt=0)
    """Each number of an update is cut to plus or minus this (not under plain, unless quantise is on). Larger means
    coarser whole numbers; raise it where shared noise asks for more room."""
    field_bits: int = Field(22, ge=8, le=40)
    """Bits of one whole number. More are finer; all fields of a word must fit 44 bits."""
    fields: int = Field(2, ge=1, le=5)
    """Whole numbers that share a word of 44 bits: 2 of 22 bits, or 3 of 14 for smaller uploads."""
    rounding: Rounding = "nearest"
    """How numbers become whole: to the nearest, or up and down by chance (stochastic), which is right in the
    mean."""
    count_bound: int = Field(1024, ge=1)
    """For weights = count: the most users that a site counts for. Each site's own count is seen by nobody else."""
    backend: Backend = "seal"
    """How BFV is called. seal: TenSEAL's raw objects. tenseal: its public interface, for builds without those;
    twice the bytes."""
    ckks: str = Field(NVFLARE_CKKS, pattern=r"^\d{4,5}/\d{2}(-\d{2}){1,4}/\d{2}$")
    """For protection = ckks: degree, bits of the primes, bits of the scale. The default is NVFlare's."""
    release: ReleaseTo = "coordinator"
    """Who gets the trained model in clear. sites: each site writes its own, and the coordinator gets none; needs
    he, he+masked or ckks."""
    colluding_sites: int = Field(1, ge=0)
    """Sites that may help the coordinator. The more, the more sites must see a round through before masks are
    opened."""
    rotate_every: int = Field(0, ge=0)
    """Rounds for which one encryption key of the league serves; 0: for all."""
    aggregator: Aggregator = "mean"
    """For protection = plain: how updates become one. All but mean stand some malicious sites."""
    malicious_sites: int = Field(1, ge=0)
    """Sites that may lie: as many as trimmed_mean, krum and the guard (worst_fall) stand, and as refused groups may
    name."""
    groups: int = Field(1, ge=1)
    """For protection = he+masked: random groups of three sites or more, each summed apart; the median of the sums
    counts. Helps against sites that lie; the price is that sites see each group's sum."""
    worst_fall: float = Field(0.0, ge=0, lt=1)
    """A round is undone where the sites' own figures fall by more than this part of the best so far; 0: never.
    Under differential privacy it must be 0."""

    @property
    def encrypted(self) -> bool:
        """Whether updates travel as ciphertexts, and the model in clear stays at the sites during the run."""
        return self.protection in ("he", "he+masked", "ckks")

    @property
    def masked(self) -> bool:
        """Whether updates travel under masks."""
        return self.protection in ("masked", "he+masked")


class SplitConfig(Settings):
    """Days that part training, validation and test: ISO dates in UTC. Left empty, those of each site's own
    site.toml count, else the last two tenths of its time. Under differential privacy name all three: days taken
    from the data depend on them."""

    validation_from: str = ""
    """First day of the validation window, e.g. 2024-05-01. Rounds train on what was before."""
    test_from: str = ""
    """First day of the test window. The tuning at home trains on what was before."""
    test_until: str = ""
    """First day after the test window."""


class LeagueConfig(Settings):
    """Everything that the parties of one run agree on."""

    name: str = "league"
    """Name of the league, for reports and ledgers. `hansa simulate` puts the name of the run's folder here."""
    seed: int = Field(0, ge=0, lt=1 << 31)
    """Public start of a run's chance: the first model, who trains in a round, made-up data. The noise of
    differential privacy doesn't come from it (but see privacy.seeded). Another seed repeats a run with other
    dice."""
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    ranker: RankerConfig = RankerConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    rounds: RoundsConfig = RoundsConfig()
    split: SplitConfig = SplitConfig()

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, as 64 hex digits."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()
