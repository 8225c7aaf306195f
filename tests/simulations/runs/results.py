"""Results of sites as their files hold them, drawn by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Mapping[str, Sequence[float]]


def result(
    by_row: Mapping[str, Rows], valid: Mapping[str, float | None] | None = None,
    losses: Mapping[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One site's results.

    Parameters
    ----------
    by_row : method → kind ("returning", "basket_") → NDCG@20 of each customer.
    valid : NDCG@20 on the validation window of the methods that need no league.
    losses : method → log loss of purchase intent; of a league's if it's final or federated.
    """
    home = {method: {"valid_ndcg@20": value, "strength": 30.0} for method, value in (valid or {}).items()}
    methods: dict[str, Any] = {method: {} for method in by_row} | home
    for method, loss in (losses or {}).items():
        methods.setdefault(method, {})["log_loss"] = loss
        if method not in ("final", "federated"):
            home[method] = methods[method]
    return {"methods": methods, "ndcg@20_by_row": by_row, "at_home": home}


def flat(final: float, alone: float, rows: int = 20, **others: float) -> dict[str, Any]:
    """A site whose customers are all alike, of the returning kind."""
    by_row = {
        name: {"returning": [value] * rows}
        for name, value in {"final": final, "alone": alone, **others}.items()
    }
    return result(by_row, {"alone": 0.1})
