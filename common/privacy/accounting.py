"""What a list of private mechanisms costs together: ε at a δ, by two maintained libraries.

The gate, by which a site's ledger grants or refuses, is Rényi accounting (Mironov 2017, conversion of Balle et al.
2020) by Opacus; the report beside it is the privacy-loss distribution (Koskela et al. 2020) by dp-accounting, which is
tighter. Invariant: for any list of mechanisms the gate is never below the report.

Neighbours are ``add-remove``: one unit (a user, a record) is there or isn't. `epsilon_pld` can also answer for
``replace-one``, whose ε is 1.05 to 2.3 times as large.

>>> round(epsilon_rdp([Mechanism.gaussian(10.0, steps=100)], 1e-5), 2)
4.73
"""

from __future__ import annotations

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
    """One private answer, or several alike.

    Parameters
    ----------
    kind : `gaussian` noise on a sum of clipped contributions, or any `pure` ε-DP answer (discrete Laplace,
        exponential, noisy top-k).
    noise : Gaussian: standard deviation over sensitivity (σ). Pure: its ε.
    sample_rate : share of units in each answer, drawn by Poisson sampling; 1 for all. Pure mechanisms take 1.
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


def epsilon_rdp(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε of all mechanisms together at `delta` (add-remove), by Opacus's Rényi accountant; 0 for none.

    Raises
    ------
    ConfigError : δ isn't between 0 and 1.
    """
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    _check_delta(delta)
    curve = np.zeros(len(ORDERS))
    for mechanism in _merged(mechanisms):
        if mechanism.kind == "gaussian":
            spent = compute_rdp(
                q=mechanism.sample_rate,
                noise_multiplier=mechanism.noise,
                steps=mechanism.steps,
                orders=ORDERS,
            )
        else:
            spent = mechanism.steps * _pure_rdp(mechanism.noise)
        curve = curve + np.asarray(spent)
    if not curve.any():
        return 0.0
    with warnings.catch_warnings():
        # Where the best order is the first or last the bound is loose but right.
        warnings.simplefilter("ignore", UserWarning)
        epsilon, _ = get_privacy_spent(orders=ORDERS, rdp=curve, delta=delta)
    return max(float(epsilon), 0.0)


def epsilon_pld(mechanisms: Iterable[Mechanism], delta: float, relation: Relation = "add-remove") -> float:
    """ε of all mechanisms together at `delta`, by dp-accounting's privacy-loss distributions (rounded up)."""
    import dp_accounting
    from absl import logging
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld

    _check_delta(delta)
    logging.set_verbosity(logging.ERROR)
    neighbours = dp_accounting.NeighboringRelation
    asked = neighbours.ADD_OR_REMOVE_ONE if relation == "add-remove" else neighbours.REPLACE_ONE
    # Replacing a unit is a removal and an addition: twice the loss of a mechanism that isn't Gaussian.
    twice = 1 if relation == "add-remove" else 2
    total = None
    for mechanism in _merged(mechanisms):
        if mechanism.kind == "gaussian":
            one = pld.from_gaussian_mechanism(
                mechanism.noise, sampling_prob=mechanism.sample_rate, neighboring_relation=asked,
                value_discretization_interval=_PLD_INTERVAL,
            )  # fmt: skip
        else:
            one = pld.from_privacy_parameters(
                common.DifferentialPrivacyParameters(twice * mechanism.noise),
                value_discretization_interval=_PLD_INTERVAL,
            )
        many = one.self_compose(mechanism.steps) if mechanism.steps > 1 else one
        total = many if total is None else total.compose(many)
    return 0.0 if total is None else max(float(total.get_epsilon_for_delta(delta)), 0.0)


def sigma_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least σ, to three digits and rounded up, with which `steps` Poisson samples stay within `epsilon`.

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


def _merged(mechanisms: Iterable[Mechanism]) -> Sequence[Mechanism]:
    """Those alike put together: a long history costs no more to compose than its kinds."""
    steps: Counter[tuple[Kind, float, float]] = Counter()
    for each in mechanisms:
        steps[each.kind, each.noise, each.sample_rate] += each.steps
    return [Mechanism(*alike, steps=count) for alike, count in sorted(steps.items())]


def _pure_rdp(epsilon: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rényi divergence of randomised response, the worst of all ε-DP mechanisms, at each of `ORDERS`."""
    orders = np.asarray(ORDERS, dtype=np.float64)
    # log p and log(1 − p) of the honest and the false answer.
    honest, false = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    divergence = np.logaddexp(orders * honest + (1 - orders) * false, orders * false + (1 - orders) * honest)
    return np.asarray(divergence / (orders - 1), dtype=np.float64)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError(f"delta {delta}", next_step="give a number between 0 and 1, such as 1e-5")
