"""Choosing a budget: what a plan promises is what the accountants say, and its expectations are measured ones."""

from __future__ import annotations

import pytest

from common.errors import ConfigError
from common.privacy.accounting import Mechanism, epsilon_rdp
from simulations.budget.plan import Point, Wish, curve, noise_beside_users, plan_budget, retained_at


def test_a_plan_keeps_its_budget_and_states_both_libraries() -> None:
    made = plan_budget(Wish(3.0, 40, users=2000))
    each = Mechanism.gaussian(made.sigma, sample_rate=made.sample_rate)
    assert epsilon_rdp([each] * 40, 1e-5) == pytest.approx(made.epsilon)
    assert 2.9 < made.epsilon <= 3.0
    assert made.epsilon_pld < made.epsilon
    assert made.expected_batch == made.sample_rate * 2000
    assert made.round_epsilon[0] > made.round_epsilon[1] > 0
    assert f"privacy.sample_rate={made.sample_rate:g}" in made.settings


def test_the_rate_is_the_least_with_nearly_the_noise_of_all() -> None:
    made = plan_budget(Wish(3.0, 40, users=2000))
    whole = plan_budget(Wish(3.0, 40, users=2000, sample_rate=1.0))
    assert made.sample_rate < 1
    assert whole.noise_beside_users <= made.noise_beside_users <= 1.1 * whole.noise_beside_users


def test_more_rounds_or_steps_change_the_noise_hardly_and_more_users_do() -> None:
    few, many = (plan_budget(Wish(3.0, rounds, users=500, sample_rate=1.0)) for rounds in (5, 80))
    assert few.noise_beside_users == pytest.approx(many.noise_beside_users, rel=0.05)
    assert (
        plan_budget(Wish(3.0, 5, users=1000, sample_rate=1.0)).noise_beside_users
        == few.noise_beside_users / 2
    )
    assert plan_budget(Wish(3.0, 10, steps_per_round=8, sample_rate=1.0)).sigma == many.sigma


def test_a_clip_that_follows_a_quantile_costs_no_more() -> None:
    made = plan_budget(Wish(3.0, 40, users=2000, adaptive=True))
    assert made.adaptive is not None
    assert made.adaptive["sigma_of_sum"] > made.sigma
    both = made.adaptive["sigma_of_sum"] ** -2 + (2 * made.adaptive["noise_of_count"]) ** -2
    assert both**-0.5 == pytest.approx(made.sigma)


def test_the_expected_loss_is_measured_and_says_where_it_ends() -> None:
    points = curve()
    assert len(points) >= 3
    assert all(point.setting for point in points)
    inside = plan_budget(Wish(8.0, 12, users=130, sample_rate=1.0))
    assert inside.measured_span == (points[0].noise, points[-1].noise)
    assert inside.utility_loss is not None
    losses = [
        plan_budget(Wish(8.0, 12, users=users, sample_rate=1.0)).utility_loss or 0
        for users in (2000, 130, 10)
    ]
    assert losses == sorted(losses)
    assert any(
        "ever measured" in text for text in plan_budget(Wish(0.1, 12, users=2, sample_rate=1.0)).warnings
    )


def test_it_warns_of_few_users_and_thin_ones() -> None:
    made = plan_budget(Wish(0.3, 12, users=20, records=2, sample_rate=1.0))
    told = " ".join(made.warnings)
    assert "20 users are few" in told
    assert "users with 2 records are too thin" in told
    assert "user with 2 of them only epsilon" in told
    assert not any(
        "thin" in text
        for text in plan_budget(Wish(8.0, 12, users=5000, records=40, sample_rate=1.0)).warnings
    )


def test_between_points_the_curve_falls_and_is_never_beyond_what_was_measured() -> None:
    points = (Point(0.01, 0.9, "a"), Point(0.1, 0.95, "b"), Point(1.0, 0.2, "c"))
    assert retained_at(0.001, points) == retained_at(0.03, points) == pytest.approx(0.925)  # pooled: chance
    assert 0.2 < retained_at(0.5, points) < 0.925
    assert retained_at(100.0, points) == 0.2
    assert noise_beside_users(2.0, 0.5, 100, 4) == 0.02


def test_what_can_not_be_planned_is_refused() -> None:
    for bad in ({"epsilon": 0.0}, {"rounds": 0}, {"users": 0}):
        with pytest.raises(ConfigError):
            plan_budget(Wish(**{"epsilon": 1.0, "rounds": 3, **bad}))  # type: ignore[arg-type]
