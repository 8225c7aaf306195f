"""What a list of private mechanisms costs together: ε at a δ, by two maintained libraries.

A site's ledger grants or refuses by Rényi accounting (Mironov 2017, conversion of Balle et al. 2020), by Opacus: the
*gate*. Beside it the privacy-loss distribution (Koskela et al. 2020), by dp-accounting, gives a tighter figure: the
*report*. Invariant: for any list of mechanisms the gate is never below the report.

Neighbouring datasets are ``add-remove``: they differ by one unit (a user, a record), which is present in one of them
only. `epsilon_pld` can also answer for ``replace-one``, whose ε is 1.05 to 2.3 times as large.

>>> round(epsilon_rdp([Mechanism.gaussian(10.0, steps=100)], 1e-5), 2)
4.73
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.errors import ConfigError

Relation = Literal["add-remove", "replace-one"]
Kind = Literal["gaussian", "pure"]
ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(11, 64), 80, 96, 128, 192, 256, 512, 1024)
_MAX_SIGMA = 1e4
_PLD_INTERVAL = 1e-4


@dataclass(frozen=True)
class Mechanism:
    """One private answer, or several of the same kind.

    Parameters
    ----------
    kind : `gaussian` noise on a sum of clipped contributions, or any `pure` ε-DP answer (discrete Laplace,
        exponential, noisy top-k).
    noise : Gaussian: standard deviation over sensitivity (σ). Pure: its ε.
    sample_rate : share of the units in each answer, drawn by Poisson sampling; 1 for all. Pure mechanisms must use 1.
    steps : how many such answers.
    """

    kind: Kind
    noise: float
    sample_rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "pure"):
            raise ConfigError(f"unknown mechanism {self.kind!r}", next_step="use gaussian or pure")
        if not (math.isfinite(self.noise) and self.noise > 0):
            raise ConfigError(
                f"a {self.kind} mechanism with noise {self.noise}", why="it would promise nothing",
                next_step="give a positive number",
            )  # fmt: skip
        if not 0 < self.sample_rate <= 1 or (self.kind == "pure" and self.sample_rate != 1):
            raise ConfigError(
                f"a {self.kind} mechanism with sample rate {self.sample_rate}",
                next_step="give a share above 0 and up to 1; pure mechanisms take 1",
            )
        if self.steps < 1:
            raise ConfigError(f"a mechanism of {self.steps} steps", next_step="give at least 1")

    @classmethod
    def gaussian(cls, sigma: float, *, sample_rate: float = 1.0, steps: int = 1) -> Mechanism:
        """Gaussian noise of `sigma` times the clip on each of `steps` Poisson samples."""
        return cls("gaussian", sigma, sample_rate, steps)

    @classmethod
    def pure(cls, epsilon: float, *, steps: int = 1) -> Mechanism:
        """Any mechanism that is ε-DP by itself."""
        return cls("pure", epsilon, 1.0, steps)

    def for_group(self, size: int) -> Mechanism:
        """The cost of the same answers for somebody with up to `size` units, such as a user with that many records.

        In a Poisson sample a user has Binomial(size, q) records. The worst case is to have all `size` records, with the
        probability that at least one is drawn; its mixture of Gaussians dominates (Ganesh 2024, arXiv:2401.10294).

        >>> Mechanism.gaussian(2.0, sample_rate=0.5).for_group(2)
        Mechanism(kind='gaussian', noise=1.0, sample_rate=0.75, steps=1)
        """
        if size < 1:
            raise ConfigError(f"a group of {size} units", next_step="give at least 1")
        if self.kind == "pure":
            return Mechanism.pure(size * self.noise, steps=self.steps)
        rate = 1.0 if self.sample_rate == 1 else -math.expm1(size * math.log1p(-self.sample_rate))
        return Mechanism("gaussian", self.noise / size, rate, self.steps)


def epsilon_rdp(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε of all mechanisms together at `delta` (add-remove), by Opacus's Rényi accountant; 0 for none.

    Raises
    ------
    ConfigError : δ isn't between 0 and 1.
    """
    from opacus.accountants.analysis.rdp import get_privacy_spent

    _check_delta(delta)
    curve = np.zeros(len(ORDERS))
    for mechanism in _merged(mechanisms):
        curve = curve + mechanism.steps * _rdp_of_one(mechanism.kind, mechanism.noise, mechanism.sample_rate)
    if not curve.any():
        return 0.0
    with warnings.catch_warnings():
        # If the best order is the first or the last one, the bound is loose but valid.
        warnings.simplefilter("ignore", UserWarning)
        epsilon, _ = get_privacy_spent(orders=ORDERS, rdp=curve, delta=delta)
    return max(float(epsilon), 0.0)


def epsilon_pld(
    mechanisms: Iterable[Mechanism], delta: float, relation: Relation = "add-remove", *,
    interval: float = _PLD_INTERVAL,
) -> float:  # fmt: skip
    """ε of all mechanisms together at `delta`, by dp-accounting's privacy-loss distributions (rounded up).

    Parameters
    ----------
    interval : step of the discretised losses; a coarser step is faster, and its ε is never below that of a finer one.
    """
    _check_delta(delta)
    return _composed(tuple(_full_batches_joined(_merged(mechanisms))), delta, relation, interval)


@functools.lru_cache(maxsize=256)
def _composed(mechanisms: tuple[Mechanism, ...], delta: float, relation: Relation, interval: float) -> float:
    # Cached, since the sites of a simulation ask for the same compositions in each round.
    import dp_accounting
    from absl import logging
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld

    logging.set_verbosity(logging.ERROR)
    neighbours = dp_accounting.NeighboringRelation
    neighbouring = neighbours.ADD_OR_REMOVE_ONE if relation == "add-remove" else neighbours.REPLACE_ONE
    # Replacing a unit is a removal and an addition: twice the loss of a mechanism that isn't Gaussian.
    factor = 1 if relation == "add-remove" else 2
    total = None
    for mechanism in mechanisms:
        if mechanism.kind == "gaussian":
            single = pld.from_gaussian_mechanism(
                mechanism.noise, sampling_prob=mechanism.sample_rate, neighboring_relation=neighbouring,
                value_discretization_interval=interval,
            )  # fmt: skip
        else:
            single = pld.from_privacy_parameters(
                common.DifferentialPrivacyParameters(factor * mechanism.noise),
                value_discretization_interval=interval,
            )
        many = single.self_compose(mechanism.steps) if mechanism.steps > 1 else single
        total = many if total is None else total.compose(many)
    return 0.0 if total is None else max(float(total.get_epsilon_for_delta(delta)), 0.0)


@functools.lru_cache(maxsize=256)
def sigma_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least σ with which `steps` Poisson samples stay within `epsilon`, rounded up to three decimals.

    Raises
    ------
    ConfigError : no noise up to 10,000 times the clip is enough.
    """

    def spent(sigma: float) -> float:
        return epsilon_rdp([Mechanism.gaussian(sigma, sample_rate=sample_rate, steps=steps)], delta)

    low, high = 0.2, 1.0
    while spent(high) > epsilon:
        low, high = high, 2 * high
        if high > _MAX_SIGMA:
            raise ConfigError(
                f"no noise keeps {steps} steps within epsilon {epsilon}", next_step="ask for fewer rounds"
            )
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > epsilon else (low, middle)
    return math.ceil(high * 1000) / 1000


def sigma_beside_count(joint: float, sigma_count: float) -> float:
    """The σ for the noisy sum of clipped gradients, if it and a noisy count together shall cost what `joint` costs.

    Adaptive clipping (Andrew et al. 2021, theorem 1): the share of users below the clip comes from a count of ±1/2 per
    user, with noise of standard deviation `sigma_count`. Both cost (σ⁻² + (2·sigma_count)⁻²)^(−1/2).

    Raises
    ------
    ConfigError : the count alone costs more.
    """
    remaining = joint**-2 - (2 * sigma_count) ** -2
    if remaining <= 0:
        raise ConfigError(
            f"a count with noise {sigma_count:g} costs more than sigma {joint:g} in all",
            next_step="give the count more noise",
        )
    return float(remaining**-0.5)


def _merged(mechanisms: Iterable[Mechanism]) -> Sequence[Mechanism]:
    """Join mechanisms of the same kind, so that composing a long history takes no longer than composing its kinds."""
    steps: Counter[tuple[Kind, float, float]] = Counter()
    for mechanism in mechanisms:
        steps[mechanism.kind, mechanism.noise, mechanism.sample_rate] += mechanism.steps
    return [Mechanism(*alike, steps=count) for alike, count in sorted(steps.items())]


def _full_batches_joined(mechanisms: Sequence[Mechanism]) -> Sequence[Mechanism]:
    """Join Gaussian mechanisms without sampling: together they are exactly one Gaussian, which needs no composition."""
    full = [
        mechanism for mechanism in mechanisms if mechanism.kind == "gaussian" and mechanism.sample_rate == 1
    ]
    if not full:
        return mechanisms
    sigma = math.fsum(mechanism.steps / mechanism.noise**2 for mechanism in full) ** -0.5
    return [*(mechanism for mechanism in mechanisms if mechanism not in full), Mechanism.gaussian(sigma)]


@functools.lru_cache(maxsize=1024)
def _rdp_of_one(kind: Kind, noise: float, sample_rate: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rényi divergence of one answer at each of `ORDERS`; n answers have n times as much."""
    from opacus.accountants.analysis.rdp import compute_rdp

    if kind == "pure":
        return _pure_rdp(noise)
    spent = compute_rdp(q=sample_rate, noise_multiplier=noise, steps=1, orders=ORDERS)
    return np.asarray(spent, dtype=np.float64)


def _pure_rdp(epsilon: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rényi divergence of randomised response, the worst of all ε-DP mechanisms, at each of `ORDERS`."""
    orders = np.asarray(ORDERS, dtype=np.float64)
    # The log probabilities of the honest and of the false answer.
    honest, false = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    divergence = np.logaddexp(orders * honest + (1 - orders) * false, orders * false + (1 - orders) * honest)
    return np.asarray(divergence / (orders - 1), dtype=np.float64)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError(f"delta {delta}", next_step="give a number between 0 and 1, such as 1e-5")
