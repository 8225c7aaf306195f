"""A whole site as unit: refused with the figure where noise would drown it, hidden where it leaves something."""

from __future__ import annotations

import numpy as np
import pytest

from clients.dp.noise.sources import SystemNoise
from clients.dp.whole_site import site_update
from common.errors import PrivacyError


def test_a_site_as_unit_is_refused_with_the_figure_where_noise_would_drown_it() -> None:
    update = np.full(40_000, 0.001, np.float32)
    with pytest.raises(PrivacyError, match="at least 1000 times the update of") as fault:
        site_update(update, 1.0, 5.0, SystemNoise(), "site 'a'")
    assert (
        "(5000 times)" in fault.value.why
    )  # the update's own norm is 0.2 of the clip; that figure stays in the log
    assert "mode=user" in fault.value.next_step


def test_a_site_as_unit_is_hidden_where_noise_leaves_something() -> None:
    update = np.array([3.0, 4.0], np.float32)
    told = np.stack([site_update(update, 1.0, 1.0, SystemNoise(), "a") for _ in range(4000)])
    assert np.allclose(told.mean(0), [0.6, 0.8], atol=0.1)
    assert np.allclose(told.std(0), 1.0, atol=0.1)
