"""A coordinator behind each of its two fronts, for those tests that only look at it from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.deployment.support.places import coordinator_up, make_kits, make_plan

nginx_here = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") is not None


@pytest.fixture(scope="session", params=["guard", "nginx"])
def league(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A coordinator whose run waits for three sites, which this test then plays."""
    if request.param == "nginx" and not nginx_here:
        pytest.skip("this machine has no nginx")
    kits = make_kits(tmp_path_factory.mktemp(request.param) / "kits", make_plan())
    with coordinator_up(kits / "coordinator", request.param) as child:
        yield SimpleNamespace(kits=kits, child=child, front=request.param, seats=None)
