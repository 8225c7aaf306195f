"""ε by the two libraries: published figures, agreement, and the gate never below the report."""

import math
import random

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from common.errors import ConfigError
from common.privacy.accounting import (
    Mechanism,
    epsilon_pld,
    epsilon_rdp,
    sigma_beside_count,
    sigma_for,
)

DELTA = 1e-5

# q, σ, T, δ, Rényi, privacy-loss distribution. The fourth Rényi figure is Opacus's own test; the full-batch rows'
# last column is the analytic Gaussian mechanism; row five lies in the span 1.9939–2.0143 of the PRV paper.
ORACLE = [
    (256 / 60000, 1.12, 14062, DELTA, 2.5186, 2.3102),
    (256 / 60000, 0.6, 7031, DELTA, 8.7695, 7.6900),
    (0.004, 1.1, 15000, DELTA, 2.5029, 2.2955),
    (0.04, 1.5, 2250, DELTA, 7.3291, 6.7688),
    (0.005, 0.8, 1000, 1e-6, 2.6265, 2.0041),
    (1.0, 10.0, 100, DELTA, 4.7285, 4.3772),
    (1.0, 5.0, 20, DELTA, 4.1616, 3.8486),
    (0.1, 1.0, 100, 1e-4, 6.8216, 5.9659),
    (0.01, 0.5, 1000, DELTA, 15.4643, 13.361),
]


def gaussian(q: float, sigma: float, steps: int) -> list[Mechanism]:
    return [Mechanism.gaussian(sigma, sample_rate=q, steps=steps)]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "rdp", "pld"), ORACLE)
def test_published_figures(q: float, sigma: float, steps: int, delta: float, rdp: float, pld: float) -> None:
    assert epsilon_rdp(gaussian(q, sigma, steps), delta) == pytest.approx(rdp, abs=1e-3)
    assert epsilon_pld(gaussian(q, sigma, steps), delta) == pytest.approx(pld, abs=1e-3)


def test_fifty_settings_agree_between_the_libraries() -> None:
    draw = random.Random(7)
    for _ in range(50):
        q, steps = 10 ** draw.uniform(-2.5, -0.5), int(10 ** draw.uniform(1, 3.3))
        ours = gaussian(q, draw.uniform(0.7, 3.0), steps)
        other = RdpAccountant()
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(ours[0].noise))
        theirs = other.compose(event, steps).get_epsilon(DELTA)
        assert epsilon_rdp(ours, DELTA) == pytest.approx(theirs, rel=0.01)
        assert epsilon_rdp(ours, DELTA) >= epsilon_pld(ours, DELTA, interval=1e-3)


def test_the_gate_is_never_below_the_report() -> None:
    draw = random.Random(8)
    for _ in range(6):
        mixed = [
            Mechanism.gaussian(draw.uniform(0.7, 3), sample_rate=draw.uniform(0.01, 1), steps=draw.randint(1, 50)),
            Mechanism.pure(draw.uniform(0.01, 0.5), steps=draw.randint(1, 5)),
        ]  # fmt: skip
        assert epsilon_rdp(mixed, DELTA) >= epsilon_pld(mixed, DELTA) - 1e-3


def test_rounds_one_by_one_cost_what_they_cost_together() -> None:
    apart = gaussian(0.1, 1.0, 1) * 100
    assert epsilon_rdp(apart, DELTA) == epsilon_rdp(gaussian(0.1, 1.0, 100), DELTA)
    assert epsilon_pld(apart, DELTA) == epsilon_pld(gaussian(0.1, 1.0, 100), DELTA)


def test_replacing_a_unit_costs_more_than_adding_one() -> None:
    for each in (gaussian(0.1, 1.0, 100), [Mechanism.pure(1.0)]):
        ratio = epsilon_pld(each, 1e-4, "replace-one") / epsilon_pld(each, 1e-4)
        assert 1.05 <= ratio <= 2.3


def test_a_pure_answer_costs_its_epsilon_and_nothing_costs_nothing() -> None:
    assert epsilon_pld([Mechanism.pure(1.0)], DELTA) == pytest.approx(1.0, abs=1e-3)
    assert epsilon_rdp([Mechanism.pure(1.0)], DELTA) == pytest.approx(1.0, abs=0.01)
    assert epsilon_rdp([], DELTA) == epsilon_pld([], DELTA) == 0.0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_sigma_keeps_the_budget_and_hardly_more(epsilon: float) -> None:
    sigma = sigma_for(epsilon, DELTA, 0.1, 120)
    assert epsilon_rdp(gaussian(0.1, sigma, 120), DELTA) <= epsilon
    assert epsilon_rdp(gaussian(0.1, sigma - 0.01, 120), DELTA) > epsilon


def test_a_coarser_report_is_never_below_a_finer_one() -> None:
    mixed = [
        *gaussian(0.05, 1.3, 40),
        Mechanism.pure(0.3, steps=2),
        *gaussian(1.0, 9.0, 3),
        *gaussian(1.0, 12.0, 1),
    ]
    fine, coarse = epsilon_pld(mixed, DELTA), epsilon_pld(mixed, DELTA, interval=1e-3)
    assert fine <= coarse <= fine + 0.02


def test_full_batches_joined_cost_what_they_cost_one_by_one() -> None:
    joined = epsilon_pld([*gaussian(1.0, 8.0, 2), *gaussian(1.0, 12.0, 3)], DELTA)
    sigma = (2 / 8.0**2 + 3 / 12.0**2) ** -0.5
    event = dp_accounting.GaussianDpEvent(sigma)
    exact = (
        PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE).compose(event).get_epsilon(DELTA)
    )
    assert joined == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("q", "sigma", "size"), [(0.1, 4.0, 3), (0.3, 6.0, 4)])
def test_a_groups_cost_is_never_below_the_exact_mixture(q: float, sigma: float, size: int) -> None:
    chances = [math.comb(size, k) * q**k * (1 - q) ** (size - k) for k in range(size + 1)]
    mixed = pld.from_mixture_gaussian_mechanism(
        sigma, list(range(size + 1)), chances, value_discretization_interval=1e-3
    )
    exact = mixed.self_compose(5)
    bound = epsilon_pld([Mechanism.gaussian(sigma, sample_rate=q, steps=5).for_group(size)], DELTA)
    assert exact.get_epsilon_for_delta(DELTA) <= bound + 1e-3
    assert Mechanism.pure(0.2, steps=3).for_group(size) == Mechanism.pure(0.2 * size, steps=3)
    assert gaussian(q, sigma, 1)[0].for_group(1) == gaussian(q, sigma, 1)[0]


def test_a_noisy_count_beside_the_sum_costs_what_one_gaussian_costs() -> None:
    beside = Mechanism.gaussian(sigma_beside_count(2.0, 7.0), steps=30)
    together = [beside, Mechanism.gaussian(2 * 7.0, steps=30)]  # a count of ±1/2
    one = [Mechanism.gaussian(2.0, steps=30)]
    assert epsilon_rdp(together, DELTA) == pytest.approx(epsilon_rdp(one, DELTA))
    with pytest.raises(ConfigError, match="more noise"):
        sigma_beside_count(2.0, 0.9)


def test_what_can_not_be_accounted_is_refused() -> None:
    for make in (
        lambda: Mechanism.gaussian(0.0),
        lambda: Mechanism.gaussian(math.nan),
        lambda: Mechanism.gaussian(1.0, sample_rate=1.2),
        lambda: Mechanism.gaussian(1.0, steps=0),
        lambda: Mechanism("pure", 1.0, 0.5),
        lambda: Mechanism.gaussian(1.0).for_group(0),
        lambda: epsilon_rdp([], 0.0),
        lambda: sigma_for(1e-6, DELTA, 1.0, 10_000),
    ):
        with pytest.raises(ConfigError):
            make()
