"""What details.json says of joining: for each merchant, for the league as a whole, and where it should pay.

Invariant: the words follow from the intervals, whatever the file states: nothing is called paid whose interval spans no
difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.reports.figures import Label
from common.reports.shapes import interval, number, rows, table
from common.reports.words import NEXT_STEPS, method_name, next_step_words

PAID, NO_DIFFERENCE, DID_NOT_PAY = "paid", "no difference", "did not pay"
FEWER = {"log_loss"}
"""Metrics of which less is better."""


@dataclass(frozen=True)
class Gain:
    """A relative gain with its interval; 0.12 is 12 % better."""

    value: float
    low: float | None
    high: float | None
    ours: float | None = None
    theirs: float | None = None

    @property
    def verdict(self) -> str:
        if self.low is not None and self.low > 0:
            return PAID
        return DID_NOT_PAY if self.high is not None and self.high < 0 else NO_DIFFERENCE


@dataclass(frozen=True)
class Verdict:
    """One merchant: what it deploys with the league, against the best it could deploy without.

    Parameters
    ----------
    together : over both kinds of customers; None where there were too few to judge by.
    shared_weight : how much of what it deploys came from the league, 0..1.
    """

    site: str
    title: str
    held_out: bool
    best_alone: str
    together: Gain | None
    returning: Gain | None
    baskets: Gain | None
    next_step: str
    shared_weight: float | None = None
    bytes_up: float | None = None
    bytes_down: float | None = None
    epsilon: float | None = None

    @property
    def verdict(self) -> str:
        return self.together.verdict if self.together else ""

    @property
    def words(self) -> Label:
        """The next step in words; a dash where none is stated."""
        return (
            next_step_words(self.next_step, self.best_alone)
            if self.next_step in NEXT_STEPS
            else Label("–", "–")
        )


@dataclass(frozen=True)
class Slice:
    """Some customers or merchants: the ratio of a method to its opponent."""

    name: str
    method: str
    against: str
    metric: str
    ratio: float
    low: float | None
    high: float | None
    merchants: int
    ours: float | None = None
    theirs: float | None = None

    @property
    def verdict(self) -> str:
        """In the metric's own direction."""
        gain = Gain(
            self.ratio - 1, *((edge - 1 if edge is not None else None) for edge in (self.low, self.high))
        )
        turned = {PAID: DID_NOT_PAY, DID_NOT_PAY: PAID}
        return turned.get(gain.verdict, NO_DIFFERENCE) if self.metric in FEWER else gain.verdict

    @property
    def words(self) -> str:
        """The ratio with its interval."""
        within = (
            f" [{self.low:.2f}, {self.high:.2f}]" if self.low is not None and self.high is not None else ""
        )
        return f"×{self.ratio:.2f}{within}"


@dataclass(frozen=True)
class Headline:
    """The league as a whole, against the strongest known opponent.

    Parameters
    ----------
    main : the stricter of the ratios.
    over : every ratio, by opponent.
    """

    main: Slice
    over: Mapping[str, Slice]

    @property
    def short(self) -> Label:
        """What joining brought, in a few words."""
        return {
            PAID: Label("Joining paid.", "加入有收益。"),
            DID_NOT_PAY: Label("Joining did not pay.", "加入没有收益。"),
        }.get(self.main.verdict, Label("No gain by joining is proven.", "加入的收益未得到证实。"))

    @property
    def sentence(self) -> Label:
        """The same with its figures."""
        merchants, gain = self.main.merchants, f"{abs(self.main.ratio - 1):.1%}"
        better = self.main.ratio >= 1
        unsure = self.main.verdict == NO_DIFFERENCE
        return Label(
            f"Over {merchants} merchants what is deployed ranks {gain} {'better' if better else 'worse'} than the best "
            f"that they could deploy alone (NDCG@20 {self.main.words})"
            + ("; the data can't tell that from no difference." if unsure else "."),
            f"{merchants} 家商家平均，实际部署的排序效果比其独自所能部署的最佳方法{'高' if better else '低'} {gain}"
            f"（NDCG@20 {self.main.words}）" + ("，数据不足以说明确有差别。" if unsure else "。"),
        )


def read_verdicts(value: object, titles: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Those of details.json, the largest loss first, then those that nothing can be said of."""
    found = [_verdict(row, titles) for row in rows(value)]
    return tuple(
        sorted(found, key=lambda v: (v.together is None, v.together.value if v.together else 0.0, v.title))
    )


def read_slices(value: object) -> tuple[Slice, ...]:
    """Those of details.json whose ratio is a number."""
    found = [_slice(str(row.get("slice") or ""), row) for row in rows(value)]
    return tuple(row for row in found if row is not None)


def read_headline(value: object) -> Headline | None:
    """That of details.json: the smallest ratio over what a merchant could deploy alone, whichever the file names."""
    found = {name: _slice("members", {"method": "final", "against": name, **table(row)})
             for name, row in table(table(value).get("over")).items()}  # fmt: skip
    over = {name: row for name, row in found.items() if row is not None}
    alone = [row for name, row in over.items() if name != "non_private"]
    return Headline(min(alone, key=lambda row: row.ratio), over) if alone else None


def count_sentence(verdicts: tuple[Verdict, ...]) -> Label | None:
    """For how many merchants joining did not pay, made no difference, and paid; in this order."""
    asked = [v for v in verdicts if not v.held_out and v.together]
    if not asked:
        return None
    lost, even, paid = (sum(v.verdict == kind for v in asked) for kind in (DID_NOT_PAY, NO_DIFFERENCE, PAID))
    return Label(
        f"Joining did not pay for {lost} of {len(asked)} merchants, made no difference that the data can tell for "
        f"{even}, and paid for {paid}.",
        f"{len(asked)} 家商家中：{lost} 家没有收益，{even} 家数据不足以说明有差别，{paid} 家有收益。",
    )


def opponent_name(name: str) -> Label:
    """What a method is called as an opponent."""
    if name == "best_alone":
        return Label("Best of its own", "自有最佳方法")
    return method_name(name)


def _verdict(row: Mapping[str, Any], titles: Mapping[str, str]) -> Verdict:
    site = str(row.get("site", ""))
    return Verdict(
        site=site, title=titles.get(site, site), held_out=row.get("held_out") is True,
        best_alone=str(row.get("best_alone") or "alone"),
        together=_gain(row.get("together")), returning=_gain(row.get("returning")), baskets=_gain(row.get("baskets")),
        next_step=str(table(row.get("next_step")).get("code") or ""),
        shared_weight=number(row.get("shared_weight")), bytes_up=number(row.get("bytes_up")),
        bytes_down=number(row.get("bytes_down")), epsilon=number(row.get("epsilon")),
    )  # fmt: skip


def _gain(value: object) -> Gain | None:
    row = table(value)
    gain, edges = number(row.get("gain")), interval(row)
    low, high = edges if edges else (None, None)
    return None if gain is None else Gain(gain, low, high, number(row.get("ours")), number(row.get("theirs")))


def _slice(name: str, row: Mapping[str, Any]) -> Slice | None:
    ratio, edges = number(row.get("ratio")), interval(row)
    if ratio is None:
        return None
    low, high = edges if edges else (None, None)
    return Slice(
        name, str(row.get("method") or ""), str(row.get("against") or ""), str(row.get("metric") or "ndcg@20"), ratio,
        low, high, int(number(row.get("merchants")) or 0), number(row.get("ours")), number(row.get("theirs")),
    )  # fmt: skip
