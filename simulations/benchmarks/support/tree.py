"""A tree of coordinators over many sites: seconds and bytes of one round, from what each piece of work costs.

Invariant: no sum holds more sites than leave four bits of noise budget (`MOST_SUMMED`). In larger leagues the top
coordinator sends several sums, and the sites decrypt each of them and add the results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from common.crypto.fields import MOST_SUMMED

_SITE_MBIT_S, _CENTRE_MBIT_S, _DELAY_S, _TRAIN_S = 20.0, 1000.0, 0.05, 30.0


@dataclass(frozen=True)
class Costs:
    """Measured for one vector. Seconds of one core; bytes.

    Parameters
    ----------
    protect_s, protect_peer_s : encrypt and mask an upload; more for each peer in the masked group.
    share_s : make the shares of one's seeds, by the square of the group; likewise `join_s` for the group's coordinator.
    pass_s : what Flower's messages cost for one upload, in and out.
    fold_s, add_s : parse and add a fresh upload; parse and add another coordinator's sum.
    open_s : decrypt, unpack and check a sum.
    """

    upload_bytes: int
    sum_bytes: int
    protect_s: float
    protect_peer_s: float
    share_s: float
    join_s: float
    pass_s: float
    fold_s: float
    add_s: float
    leftover_s: float
    open_s: float


@dataclass(frozen=True)
class Tree:
    """Coordinators over coordinators, each with at most `fanout` parties below it; `fanout` ≥ sites means one alone."""

    sites: int
    fanout: int
    cores: int = 4
    site_mbit_s: float = _SITE_MBIT_S
    centre_mbit_s: float = _CENTRE_MBIT_S
    delay_s: float = _DELAY_S
    train_s: float = _TRAIN_S
    most_summed: int = MOST_SUMMED

    @property
    def levels(self) -> list[int]:
        """Coordinators of each level, from those next to the sites to the one at the top."""
        counts = [math.ceil(self.sites / self.fanout)]
        while counts[-1] > 1:
            counts.append(math.ceil(counts[-1] / self.fanout))
        return counts

    def sums(self, level: int) -> int:
        """Sums that stand for all sites below one coordinator of a level, none of more than `most_summed` sites."""
        return math.ceil(min(self.sites, self.fanout ** (level + 1)) / self.most_summed)

    def round(self, costs: Costs) -> dict[str, float]:
        """Seconds and bytes of one round.

        A site trains, protects, and sends; its coordinator folds, agrees and opens the leftover masks of its own group;
        sums go up, each level adding those of the level below as far as a sum may grow; the top's sums come down; sites
        decrypt each and add. The groups of one level work at the same time, and so do the cores of a coordinator on
        uploads that are there.
        """
        group, inner = min(self.fanout, self.sites), len(self.levels) - 1
        site_s = costs.protect_s + costs.protect_peer_s * (group - 1) + costs.share_s * group**2
        sent_s = self._sent_s(costs.upload_bytes, self.site_mbit_s)
        work_s = group * (costs.pass_s + costs.fold_s) / self.cores
        arrive_s = max(sent_s, self._sent_s(group * costs.upload_bytes, self.centre_mbit_s))
        settle_s = 4 * self.delay_s + costs.leftover_s * group + costs.join_s * group**2
        gather_s = max(arrive_s, work_s) + settle_s
        handed = self.sums(inner)
        up_s, down_s = (
            sum(self._up_s(costs, level) for level in range(inner)),
            self._down_s(costs, inner, handed),
        )
        open_s = handed * costs.open_s
        total = self.train_s + site_s + self.delay_s + gather_s + up_s + down_s + open_s
        site_bytes = costs.upload_bytes + handed * costs.sum_bytes
        return {
            "site_s": site_s + open_s, "gather_s": gather_s, "up_s": up_s, "down_s": down_s, "round_s": total,
            "sums_handed_down": handed, "site_mb": site_bytes / 1e6, "busiest_mb": group * site_bytes / 1e6,
            "busiest_core_s": group * ((1 + handed) * costs.pass_s + costs.fold_s + costs.leftover_s)
            + costs.join_s * group**2,
        }  # fmt: skip

    def _below(self, level: int) -> int:
        """Coordinators of a level below one of the next."""
        return min(self.fanout, self.levels[level])

    def _up_s(self, costs: Costs, level: int) -> float:
        """A level hands its sums to the next, which adds them."""
        count = self._below(level) * self.sums(level)
        return (
            self.delay_s + self._sent_s(count * costs.sum_bytes, self.centre_mbit_s)
            + count * (costs.pass_s + costs.add_s) / self.cores
        )  # fmt: skip

    def _down_s(self, costs: Costs, inner: int, handed: int) -> float:
        """The top's sums go to each coordinator below, and from the lowest to their sites."""
        size, group = handed * costs.sum_bytes, min(self.fanout, self.sites)
        between_s = sum(
            self.delay_s + self._sent_s(self._below(level) * size, self.centre_mbit_s)
            for level in range(inner)
        )
        out_s = self._sent_s(group * size, self.centre_mbit_s) + group * handed * costs.pass_s / self.cores
        return between_s + self.delay_s + max(self._sent_s(size, self.site_mbit_s), out_s)

    def _sent_s(self, count: float, mbit_s: float) -> float:
        return 8 * count / (mbit_s * 1e6)
