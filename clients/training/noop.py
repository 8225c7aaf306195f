"""A site without data: real messages of real sizes, with simple arithmetic instead of training.

It's used to measure and test everything around training: rounds, grids, checkpoints and resuming. It's chosen by
`job = "noop"` in Flower's run configuration, with `noop-size` parameters and, to use processor time, `noop-steps` steps
of gradient descent on a fixed problem.

Invariant: like a real site it's stateless: what it returns depends only on (seed, site, round, vector).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np

from common.files import write_json
from common.protocol.wire import FloatVector, Layout, TrainResult

_PULL = np.float32(0.25)


class NoopSite:
    """A trainer that moves every parameter towards a number that is the site's own.

    Parameters
    ----------
    name : the site's name.
    seed : the league's public seed.
    size : how many numbers the shared vector has.
    steps : steps of real training (one thread, float32) per round; 0 for none.
    pause_s : seconds to wait in each round, so that a test can interrupt it.
    """

    def __init__(self, name: str, seed: int, size: int, steps: int = 0, pause_s: float = 0.0) -> None:
        self.name = name
        self._seed, self._size, self._steps, self._pause_s = seed, size, steps, pause_s

    def layout(self) -> Layout:
        """Two tensors, so that a release has names to show."""
        half = self._size // 2
        return Layout.of({"first": (half,), "second": (self._size - half,)})

    def initial(self) -> FloatVector:
        """The first model, the same at all sites."""
        return np.random.default_rng(self._seed).standard_normal(self._size, dtype=np.float32)

    def prepare(self) -> dict[str, float]:
        """A made-up number of users."""
        return {"users": 100.0 + 900.0 * self._chance("users")}

    def train(self, vector: FloatVector, round_: int) -> TrainResult:
        """Move a quarter of the way to the site's target of this round."""
        if self._pause_s:
            time.sleep(self._pause_s)
        if self._steps:
            _descend(self._steps)
        target = np.float32(self._chance("target") + 0.1 * self._chance(f"round {round_}"))
        update = vector * -_PULL
        update += _PULL * target
        return TrainResult(update, 1.0, self.measure(vector))

    def measure(self, vector: FloatVector) -> dict[str, float]:
        """A loss, the squared distance to the site's target, and a figure that grows as the loss falls."""
        probe = vector[:: max(1, vector.size // 1000)].astype(np.float64)
        loss = float(np.mean((probe - self._chance("target")) ** 2))
        return {"train/loss": loss, "valid/ndcg@20": 1.0 / (1.0 + loss)}

    def evaluate_local(self, out: Path) -> dict[str, float]:
        """Figures of a model that never left the site."""
        return self._keep(out / "local.json", {"local/ndcg@20": self._chance("local")})

    def evaluate_final(self, vector: FloatVector, out: Path, whole: bool = True) -> dict[str, float]:
        """Figures of the shared model."""
        figures = {"federated/ndcg@20": self.measure(vector)["valid/ndcg@20"]}
        return self._keep(out / "final.json", figures)

    def _keep(self, path: Path, figures: dict[str, float]) -> dict[str, float]:
        if self._pause_s:
            time.sleep(self._pause_s)
        write_json(path, figures)
        return figures

    def _chance(self, purpose: str) -> float:
        digest = hashlib.sha256(f"{self._seed}/{self.name}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / float(1 << 48)


def _descend(steps: int) -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    batch = torch.randn(256, 128)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        net(batch).square().mean().backward()
        optimiser.step()
