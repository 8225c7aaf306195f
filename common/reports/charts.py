"""The plots and tables of a run's story; a plot without data is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from common.reports.figures import Bar, Label, Span, bar_chart, interval_chart, line_chart, reliability_chart
from common.reports.shapes import number, table
from common.reports.story import METHODS, SCORE, Story
from common.reports.verdicts import DID_NOT_PAY, PAID
from common.reports.words import BEHAVIOUR_NAMES, method_name

_TONES = {
    "alone": "alone",
    "league": "joined",
    "final": "joined",
    "non_private": "ideal",
    "centralised": "ideal",
}
_VERDICT_TONES = {PAID: "good", DID_NOT_PAY: "bad"}
_MAX_SPANS = 40
_WITHOUT = {"text": Label("without texts", "不用文本"), "image": Label("without pictures", "不用图片")}


@dataclass(frozen=True)
class Behaviour:
    """The behaviour predictor under one method, as the mean over sites."""

    method: str
    auc: float | None
    log_loss: float | None


def charts(story: Story) -> dict[str, Markup | None]:
    """All plots by name; None where the data are missing."""
    makers: dict[str, Callable[[Story], Markup | None]] = {
        "methods": _methods, "verdicts": _verdicts, "score": _score, "loss": _loss, "reliability": _reliability,
        "ablation": _ablation,
    }  # fmt: skip
    return {name: make(story) for name, make in makers.items()}


def behaviour_rows(story: Story) -> tuple[Behaviour, ...]:
    """Methods for which the behaviour predictor was measured."""
    names = [*BEHAVIOUR_NAMES, *(name for name in METHODS if name not in BEHAVIOUR_NAMES)]
    names += sorted(set(story.metrics) - set(names))
    rows = (Behaviour(name, story.value(name, "auc"), story.value(name, "log_loss")) for name in names)
    return tuple(row for row in rows if row.auc is not None or row.log_loss is not None)


def _methods(story: Story) -> Markup | None:
    bars = []
    for name in story.methods:
        value, spread = story.value(name, SCORE), story.interval(name, SCORE)
        low, high = spread if spread is not None else (None, None)
        bars.append(Bar(method_name(name), value or 0.0, _TONES.get(name, "plain"), low, high))
    return bar_chart(bars, Label("NDCG@20 by method", "各方法的 NDCG@20")) if bars else None


def _verdicts(story: Story) -> Markup | None:
    spans = [
        Span(
            row.title,
            row.together.value,
            row.together.low,
            row.together.high,
            _VERDICT_TONES.get(row.verdict, "even"),
        )
        for row in story.verdicts
        if row.together and not row.held_out
    ][:_MAX_SPANS]
    title = Label("Gain over the best of its own", "相对自有最佳方法的提升")
    return interval_chart(spans, title) if spans else None


def _score(story: Story) -> Markup | None:
    points = [(float(r.number), r.score) for r in story.rounds if r.score is not None]
    title = Label("Validation NDCG@20 by round", "各轮验证 NDCG@20")
    return line_chart(points, title, below=Label("round", "轮次")) if len(points) > 1 else None


def _loss(story: Story) -> Markup | None:
    points = [(float(r.number), r.loss) for r in story.rounds if r.loss is not None]
    title = Label("Training loss by round", "各轮训练损失")
    return line_chart(points, title, below=Label("round", "轮次"), digits=3) if len(points) > 1 else None


def _reliability(story: Story) -> Markup | None:
    rows = story.details.get("calibration")
    bins = []
    for row in rows if isinstance(rows, list) else ():
        predicted, observed = number(table(row).get("predicted")), number(table(row).get("observed"))
        count = number(table(row).get("count"))
        if predicted is not None and observed is not None and count is not None and count > 0:
            bins.append((min(max(predicted, 0.0), 1.0), min(max(observed, 0.0), 1.0), int(count)))
    title = Label("Predicted and observed share of buyers", "预测与实际购买比例")
    across = Label("predicted share of buyers", "预测购买比例")
    return reliability_chart(bins, title, across=across) if bins else None


def _ablation(story: Story) -> Markup | None:
    bars = []
    for name, metrics in table(story.details.get("ablation")).items():
        value = number(table(metrics).get(SCORE))
        if value is not None:
            bars.append(Bar(_WITHOUT.get(name, Label(f"without {name}", f"不用 {name}")), value, "plain"))
    whole = story.value("final", SCORE)
    if bars and whole is not None:
        bars.insert(0, Bar(Label("with everything", "使用全部信息"), whole, "joined"))
    return bar_chart(bars, Label("NDCG@20 with parts left out", "去掉部分信息后的 NDCG@20")) if bars else None
