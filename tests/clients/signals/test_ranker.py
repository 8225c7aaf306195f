"""The ranker's likelihood against plain loops, finite differences and a search without gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from clients.signals.names import COLUMNS, N_SIGNALS, OF_CUSTOMER, START
from clients.signals.ranker import ALL, CONTRAST, Form, RankerPart, curvatures, row_losses
from clients.signals.rows import FitRows
from clients.training.moves import move
from common.settings.config import PrivacyConfig
from tests.clients.five_users import AS_DRAWN

WIDTH = len(COLUMNS)
FORMS = {
    "all": ALL,
    "site": Form.of(PrivacyConfig(mode="site")),
    "user": Form.of(PrivacyConfig(mode="user")),
}


def drawn_rows(seed: int, n: int = 8, candidates: int = 6) -> FitRows:
    """Rows of both kinds and few users; some places hold no candidate."""
    drawn = np.random.default_rng(seed)
    offset = drawn.normal(size=(n, candidates)).astype(np.float32)
    offset[:, -1] = np.where(drawn.random(n) < 0.5, -np.inf, offset[:, -1])
    share = np.zeros((n, candidates), np.float32)
    share[:, 0] = np.where(np.arange(n) % 3 == 0, 0.5, 1.0)
    share[:, 1] = 1.0 - share[:, 0]
    return FitRows(
        drawn.normal(size=(n, candidates, WIDTH)).astype(np.float32), share, offset,
        np.arange(n) % 2, drawn.integers(0, 4, n),
    )  # fmt: skip


def slow_loss(rows: FitRows, weights: np.ndarray) -> list[float]:
    """Each row's negative log likelihood, candidate by candidate."""
    losses = []
    for row in range(len(rows)):
        logits = [
            float(rows.signals[row, c].astype(np.float64) @ weights[rows.kind[row]])
            + float(rows.offset[row, c])
            for c in range(rows.share.shape[1])
        ]
        log_z = np.log(sum(np.exp(value) for value in logits))
        losses.append(
            -sum(
                s * (value - log_z)
                for s, value in zip(rows.share[row].tolist(), logits, strict=True)
                if s > 0
            )
        )
    return losses


def of_form(form: Form, vector: np.ndarray) -> np.ndarray:
    """The weights with which a league learns: those of its own signals."""
    return form.weights(vector) * form.columns


@settings(max_examples=10, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31))
def test_a_rows_loss_and_gradient_are_those_of_the_softmax(seed: int) -> None:
    rows, weights = drawn_rows(seed), np.random.default_rng(seed).normal(0, 0.3, size=(2, WIDTH))
    losses, gradients = row_losses(rows, weights)
    assert losses == pytest.approx(slow_loss(rows, weights), abs=1e-4)
    step = 1e-5
    for number in (0, 3, WIDTH - 1):
        up, down = weights.copy(), weights.copy()
        up[:, number] += step
        down[:, number] -= step
        slope = (np.array(slow_loss(rows, up)) - np.array(slow_loss(rows, down))) / (2 * step)
        assert gradients[:, number] == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_and_curvature_of_the_part_are_the_differences_of_its_loss(name: str, seed: int) -> None:
    part = RankerPart(drawn_rows(seed), FORMS[name])
    assert (part.form.anchors > 0).all()
    at = np.random.default_rng(seed).normal(0, 0.2, part.form.size)

    def loss(vector: np.ndarray) -> float:
        held = float(part.form.anchors @ vector**2) / 2
        return sum(slow_loss(part.rows, of_form(part.form, vector))) / np.sqrt(len(part.rows)) + held

    value, gradient = part.loss(at)
    assert value == pytest.approx(loss(at), abs=1e-4)
    curvature = part.curvature(at)
    assert curvature.shape == (part.form.size, part.form.size)
    for place in range(0, part.form.size, 7):
        unit = np.zeros(part.form.size)
        unit[place] = 1e-4
        assert gradient[place] == pytest.approx((loss(at + unit) - loss(at - unit)) / 2e-4, abs=1e-4)
        unit *= 100
        slope = (part.loss(at + unit)[1] - part.loss(at - unit)[1]) / 2e-2
        assert curvature[place] == pytest.approx(slope, abs=2e-3)
    assert np.linalg.eigvalsh(curvature).min() > -1e-6


@pytest.mark.parametrize("name", FORMS)
def test_a_users_gradient_is_the_sum_over_the_users_rows(name: str) -> None:
    rows = drawn_rows(5)
    part = RankerPart(rows, FORMS[name])
    at = np.random.default_rng(0).normal(0, 0.2, part.form.size)
    found = part.user_gradients(at)
    users = np.unique(rows.user)
    assert found.shape == (len(users), part.form.size)
    for user, gradient in zip(users, found, strict=True):
        alone = rows.where(rows.user == user)
        truth = RankerPart(alone, part.form, anchored=False).loss(at)[1] * np.sqrt(len(alone))
        assert gradient == pytest.approx(truth, abs=1e-4)
    assert found.sum(0) == pytest.approx(
        RankerPart(rows, part.form, anchored=False).loss(at)[1] * np.sqrt(len(rows)), abs=1e-4
    )


def test_signals_that_a_league_may_not_read_have_no_say_in_what_it_learns() -> None:
    """Not in the chances of the softmax either: else one customer would change the gradients of others."""
    rows = drawn_rows(2)
    other = replace(rows, signals=np.where(FORMS["user"].columns, rows.signals, 3 * rows.signals + 1))
    at = np.random.default_rng(0).normal(0, 0.2, FORMS["user"].size)
    first, second = (RankerPart(each, FORMS["user"]) for each in (rows, other))
    assert np.array_equal(first.user_gradients(at), second.user_gradients(at))
    assert first.loss(at)[0] == second.loss(at)[0]
    assert np.array_equal(first.curvature(at), second.curvature(at))


@settings(max_examples=4, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31), strength=st.floats(0.3, 10))
def test_a_move_is_the_minimum_that_another_method_finds(seed: int, strength: float) -> None:
    part = RankerPart(drawn_rows(seed, n=12), FORMS["user"])
    at = np.random.default_rng(seed).normal(0, 0.3, part.form.size)

    def held(delta: np.ndarray) -> float:
        loss = sum(slow_loss(part.rows, of_form(part.form, at + delta))) / np.sqrt(12)
        loss += float(part.form.anchors @ (at + delta) ** 2) / 2
        return loss + strength / 2 * float(delta @ delta)

    slow = minimize(held, np.zeros_like(at), method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-7})
    found = move(part, at, strength)
    assert held(found) <= slow.fun + 1e-6
    assert found == pytest.approx(slow.x, abs=5e-3)


def test_a_vector_of_zeros_is_the_public_start_and_contrast_parts_the_kinds() -> None:
    for form in FORMS.values():
        assert form.weights(np.zeros(form.size)).tolist() == [START.tolist()] * 2
    vector = np.zeros(ALL.size)
    vector[2], vector[WIDTH + 2], vector[WIDTH - 1] = 0.5, 3.0, 0.25
    away = ALL.weights(vector) - START
    assert away[:, 2].tolist() == [0.5 + 3 * CONTRAST, 0.5 - 3 * CONTRAST]
    assert away[:, -1].tolist() == [0.25] * 2
    assert not np.delete(away, [2, WIDTH - 1], axis=1).any()
    assert ALL.vector(START + away) == pytest.approx(vector)


def test_a_private_vector_moves_the_weights_of_its_signals_alone_for_both_kinds_alike() -> None:
    form = FORMS["user"]
    away = form.weights(np.arange(1.0, form.size + 1)) - START
    assert away[0].tolist() == away[1].tolist()
    assert away[0][:N_SIGNALS][OF_CUSTOMER] == pytest.approx(np.arange(1.0, form.size + 1))
    assert not away[0][:N_SIGNALS][~OF_CUSTOMER].any()
    assert not away[0][N_SIGNALS:].any()
    assert form.vector(START + away) == pytest.approx(np.arange(1.0, form.size + 1))


def test_the_form_follows_from_the_settings() -> None:
    assert Form.of(PrivacyConfig(mode="off")) is ALL
    assert ALL.size == WIDTH + N_SIGNALS
    site = Form.of(PrivacyConfig(mode="site"))
    assert (site.size, site.contrast) == (N_SIGNALS, False)
    assert not Form.of(PrivacyConfig(mode="distributed")).contrast


def test_of_no_rows_there_is_no_loss_and_no_curvature() -> None:
    part = RankerPart(FitRows.joined([]), ALL, anchored=False)
    value, gradient = part.loss(np.ones(ALL.size))
    assert value == 0
    assert not gradient.any()
    assert not part.curvature(np.ones(ALL.size)).any()
    assert part.user_gradients(np.ones(ALL.size)).shape == (0, ALL.size)
    assert not move(part, np.ones(ALL.size), 1.0).any()
    assert part.start().tolist() == [0.0] * ALL.size


def test_large_logits_stay_finite() -> None:
    rows = drawn_rows(1)
    losses, gradients = row_losses(rows, np.full((2, WIDTH), 200.0))
    assert np.isfinite(losses).all()
    assert np.isfinite(gradients).all()
    assert all(np.isfinite(c).all() for c in curvatures(rows, np.full((2, WIDTH), 200.0)))
