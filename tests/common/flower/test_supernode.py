"""What the site's SuperNode does with a message whose run ends."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.supercore.run import RunNotRunningException

from common.flower.supernode import whole_or_dropped


def test_a_run_that_ends_while_a_message_comes_is_a_failure_like_any_other() -> None:
    def ended(*given: Any, **named: Any) -> dict[str, bytes]:
        raise RunNotRunningException

    with pytest.raises(RuntimeError, match="the run has ended"):
        whole_or_dropped(ended)(["a"])
    assert whole_or_dropped(lambda ids: dict.fromkeys(ids, b""))(["a"]) == {"a": b""}
