"""Choose a budget: from ε, rounds and the size of a site to σ, clip, batch, and what it will cost in quality.

What noise does to a model is told by one number, the noise of the whole run beside the users that stand against it,
σ / (q·N·√T) for T steps on a share q of N users: it hardly depends on T, since σ grows with √T. `curve.json` holds
how much of the federated gain was left at measured values of it (`hansa bench budget` measures them anew). Invariant:
nothing here reads data; outside the measured span the plan says so and gives the nearest measured value as a bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from json import loads

from common.errors import ConfigError
from common.privacy.accounting import Mechanism, epsilon_pld, epsilon_rdp, sigma_beside_count, sigma_for
from common.settings.config import TrainingConfig
from simulations.setup.create import PRIVATE_SETTINGS

_CLIP = float(str(PRIVATE_SETTINGS["privacy.clip"]))
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_NEARLY_AS_GOOD = 1.1
_POOR, _GOOD = 0.5, 0.8
_COUNT_SHARE = 20.0


@dataclass(frozen=True)
class Point:
    """One measurement: noise beside users, and the share of the gain over popularity that was left."""

    noise: float
    retained: float
    setting: str


@dataclass(frozen=True)
class BudgetPlan:
    """What to set, what it costs, and what to expect.

    Parameters
    ----------
    noise_beside_users : σ / (q·N·√T).
    utility_loss : expected share of the federated gain over popularity that the noise takes; None without a curve.
    measured_span : the values of `noise_beside_users` that were measured.
    round_epsilon : what the first and the last round add.
    adaptive : σ of the sum and noise of the count, where the clip is to follow a quantile at the same cost.
    """

    epsilon: float
    epsilon_pld: float
    delta: float
    unit: str
    rounds: int
    steps_per_round: int
    users: int
    sample_rate: float
    expected_batch: float
    sigma: float
    clip: float
    noise_beside_users: float
    utility_loss: float | None
    measured_span: tuple[float, float] | None
    round_epsilon: tuple[float, float]
    adaptive: dict[str, float] | None
    warnings: tuple[str, ...]
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Wish:
    """What a plan is asked for.

    Parameters
    ----------
    users : of the smallest site.
    records : events that a typical user has there.
    sample_rate : None for the least share of users whose noise is within a tenth of that of all.
    adaptive : also plan a clip that follows a quantile.
    """

    epsilon: float
    rounds: int
    users: int = 100
    records: float | None = None
    delta: float = 1e-5
    steps_per_round: int = 1
    sample_rate: float | None = None
    adaptive: bool = False


def plan_budget(wish: Wish) -> BudgetPlan:
    """Plan a run.

    Raises
    ------
    ConfigError : no noise is enough, or a number is out of range.
    """
    if wish.users < 1 or wish.rounds < 1 or wish.steps_per_round < 1 or wish.epsilon <= 0:
        raise ConfigError("a plan needs a positive epsilon, rounds, steps and users", where="budget plan")
    epsilon, delta, rounds, users = wish.epsilon, wish.delta, wish.rounds, wish.users
    steps = rounds * wish.steps_per_round
    sample_rate = _rate(epsilon, delta, steps, users) if wish.sample_rate is None else wish.sample_rate
    sigma = sigma_for(epsilon, delta, sample_rate, steps)
    mechanism = Mechanism.gaussian(sigma, sample_rate=sample_rate, steps=wish.steps_per_round)
    noise = noise_beside_users(sigma, sample_rate, users, steps)
    points = curve()
    retained = retained_at(noise, points) if points else None
    last = epsilon_rdp([mechanism] * rounds, delta) - (
        epsilon_rdp([mechanism] * (rounds - 1), delta) if rounds > 1 else 0
    )
    batch = sample_rate * users
    return BudgetPlan(
        epsilon=epsilon_rdp([mechanism] * rounds, delta),
        epsilon_pld=epsilon_pld([mechanism] * rounds, delta), delta=delta,
        unit="one user of a site, added or removed", rounds=rounds, steps_per_round=wish.steps_per_round, users=users,
        sample_rate=sample_rate, expected_batch=batch, sigma=sigma, clip=_CLIP, noise_beside_users=noise,
        utility_loss=None if retained is None else 1 - retained,
        measured_span=(points[0].noise, points[-1].noise) if points else None,
        round_epsilon=(epsilon_rdp([mechanism], delta), last),
        adaptive=_adaptive(sigma, batch) if wish.adaptive else None,
        warnings=tuple(_warnings(wish, noise, points, mechanism)),
        settings=(
            "privacy.mode=user", f"privacy.epsilon={epsilon:g}", f"privacy.delta={delta:g}", f"rounds.count={rounds}",
            f"privacy.sample_rate={sample_rate:g}", f"privacy.steps_per_round={wish.steps_per_round}",
            f"privacy.expected_users={max(1, round(batch))}",
        ),
    )  # fmt: skip


def noise_beside_users(sigma: float, sample_rate: float, users: int, steps: int) -> float:
    """σ / (q·N·√T)."""
    return sigma / (sample_rate * users * math.sqrt(steps))


@lru_cache(maxsize=1)
def curve() -> tuple[Point, ...]:
    """The measured points, by noise; empty where none were measured."""
    rows = loads(files("simulations.budget").joinpath("curve.json").read_text(encoding="utf-8"))["points"]
    return tuple(sorted((Point(**row) for row in rows), key=lambda point: point.noise))


def retained_at(noise: float, points: tuple[Point, ...]) -> float:
    """Share of the gain that is left, between measured points in proportion to the logarithm of the noise.

    Chance may put a noisier point above a quieter one: the curve used never rises, by pooling neighbours that do.

    >>> retained_at(0.1, (Point(0.01, 1.0, ""), Point(1.0, 0.5, "")))
    0.75
    """
    xs, ys = [math.log(point.noise) for point in points], _falling([point.retained for point in points])
    at = math.log(noise)
    if at <= xs[0]:
        return ys[0]
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), zip(xs[1:], ys[1:], strict=True), strict=False):
        if at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0) if x1 > x0 else y1
    return ys[-1]


def _falling(values: list[float]) -> list[float]:
    """The nearest sequence that never rises (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return [value for value, count in blocks for _ in range(count)]


def _rate(epsilon: float, delta: float, steps: int, users: int) -> float:
    whole = noise_beside_users(sigma_for(epsilon, delta, 1.0, steps), 1.0, users, steps)
    place = bisect_left(
        _RATES, True,
        key=lambda rate: (
            noise_beside_users(sigma_for(epsilon, delta, rate, steps), rate, users, steps) <= _NEARLY_AS_GOOD * whole
        ),
    )  # fmt: skip
    return _RATES[min(place, len(_RATES) - 1)]


def _adaptive(sigma: float, batch: float) -> dict[str, float]:
    """Andrew et al. 2021: the count's noise a twentieth of the batch, the sum's σ raised so that both cost the same."""
    count = max(batch / _COUNT_SHARE, sigma)
    return {"sigma_of_sum": sigma_beside_count(sigma, count), "noise_of_count": count}


def _warnings(wish: Wish, noise: float, points: tuple[Point, ...], mechanism: Mechanism) -> list[str]:
    users, records, epsilon = wish.users, wish.records, wish.epsilon
    warnings = []
    if points and not points[0].noise <= noise <= points[-1].noise:
        side = "more" if noise > points[-1].noise else "less"
        warnings.append(
            f"the noise is {side} than was ever measured: the loss is that of the nearest measurement"
        )
    if points and retained_at(noise, points) < _POOR:
        enough = next((p.noise for p in reversed(points) if retained_at(p.noise, points) >= _GOOD), None)
        step = (
            f" about {math.ceil(users * noise / enough):,} users would keep {_GOOD:.0%} of it,"
            if enough
            else ""
        )
        warnings.append(
            f"{users} users are few for epsilon {epsilon:g}: noise takes more than half of the gain;{step} "
            "or raise epsilon, or let sites share the noise (privacy.mode=distributed)"
        )
    targets, length = TrainingConfig().targets_per_user, 2 * TrainingConfig().targets_per_user
    if records is not None and records < length:
        warnings.append(
            f"users with {records:g} records are too thin: a sample holds {targets} targets and the history before "
            "them, so most users say little for what they cost; a longer span of data helps more than more rounds"
        )
    if records is not None and records > 1:
        group = epsilon_rdp([mechanism.for_group(math.ceil(records))] * wish.rounds, wish.delta)
        warnings.append(
            f"the same noise on single records would promise a user with {math.ceil(records)} of them only "
            f"epsilon {group:.2f}"
        )
    if epsilon > 8:
        warnings.append("above epsilon 8 the promise is weak: an attacker's odds may rise by e^epsilon")
    return warnings
