"""Private answers about counts of users, by OpenDP: discrete Laplace, the exponential mechanism, noisy top-k.

All numbers are whole: the low bits of floating-point Laplace noise would reveal which of two neighbouring datasets was
counted. Invariant: an answer is accepted only if OpenDP's own privacy map says that it costs at most the given ε.
Neighbouring datasets differ by one user, whose records can only increase counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import PrivacyError

_HEADROOM = 1.0 + 1e-9  # above the rounding of the map's division


def noisy_counts(counts: Sequence[int], per_user: int, epsilon: float) -> list[int]:
    """Counts with discrete Laplace noise; one user is in at most ``per_user`` of them, once in each.

    Raises
    ------
    PrivacyError : OpenDP says that this costs more than ``epsilon``.
    """
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64"), size=len(counts)), dp.l1_distance(T="i64")
    measurement = dp.m.make_laplace(*space, scale_of(per_user, epsilon))
    _require(measurement.map(per_user), epsilon)
    return [int(count) for count in measurement(list(counts))]


def scale_of(per_user: int, epsilon: float) -> float:
    """Scale of the discrete Laplace noise; 95 % of the draws lie within three times of it."""
    return per_user / epsilon * _HEADROOM


def choose(scores: Sequence[int], epsilon: float) -> int:
    """The position of a high score, by the exponential mechanism; one user adds at most 1 to each score."""
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64", monotonic=True)
    measurement = dp.m.make_noisy_max(*space, dp.max_divergence(), _HEADROOM / epsilon)
    _require(measurement.map(1), epsilon)
    return int(measurement(list(scores)))


def noisy_top_k(scores: Sequence[int], k: int, epsilon: float) -> list[int]:
    """The positions of ``k`` high scores, best first; one user adds at most 1 to each of any number of scores."""
    dp = _opendp()
    k = min(k, len(scores))
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64", monotonic=True)
    measurement = dp.m.make_noisy_top_k(*space, dp.max_divergence(), k, k * _HEADROOM / epsilon)
    _require(measurement.map(1), epsilon)
    return [int(place) for place in measurement(list(scores))]


def _require(cost: float, epsilon: float) -> None:
    if cost > epsilon:
        raise PrivacyError(
            f"OpenDP puts an answer at epsilon {cost:.6g}, above the {epsilon:.6g} that it was given"
        )


def _opendp() -> Any:
    # Imported late: it takes a second, and a site that releases no statistics doesn't need it.
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp
