"""Plots as inline SVG: readable in print, without scripts, and in both languages.

Invariant: everything that comes from data is escaped; coordinates are rounded, so equal data give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 760
CURVE_WIDTH = 460


@dataclass(frozen=True)
class Label:
    """A text in English and in Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class Bar:
    """One bar: `tone` is "plain", "alone", "joined" or "ideal"; `low` and `high` its interval."""

    label: Label
    value: float
    tone: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Span:
    """One row of an interval plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    tone: str


def bar_chart(bars: Sequence[Bar], title: Label) -> Markup:
    """Horizontal bars from 0, with their values and intervals."""
    left, right, row = 178, 64, 34
    top = max((bar.high if bar.high is not None else bar.value) for bar in bars) or 1.0
    scale = (WIDTH - left - right) / top
    parts = []
    for place, bar in enumerate(bars):
        y = 8 + place * row
        length = max(bar.value * scale, 1.5)
        parts.append(_text(left - 12, y + 17, bar.label, anchor="end", kind="name"))
        parts.append(_rect(left, y + 3, length, 20, bar.tone))
        end = length
        if bar.low is not None and bar.high is not None:
            parts.append(_whisker(left + bar.low * scale, left + bar.high * scale, y + 13))
            end = max(end, bar.high * scale)
        parts.append(_figure(left + end + 8, y + 17, f"{bar.value:.3f}"))
    return _svg(parts, 12 + row * len(bars), title)


def interval_chart(spans: Sequence[Span], title: Label) -> Markup:
    """Points with intervals beside the line of no difference; values are shares, 0.12 = 12 %."""
    left, right, row, foot = 190, 74, 32, 30
    ends = [0.0] + [edge for span in spans for edge in (span.value, span.low, span.high) if edge is not None]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.05
    low, high = low - pad, high + pad
    scale = (WIDTH - left - right) / (high - low)

    def across(value: float) -> float:
        return left + (value - low) * scale

    height = 10 + row * len(spans) + foot
    parts = [_line(across(0), 4, across(0), height - foot, "zero")]
    for tick in ticks(low, high):
        parts.append(_figure(across(tick), height - 8, _percent(tick), anchor="middle", kind="tick"))
        if tick:
            parts.append(_line(across(tick), 4, across(tick), height - foot, "grid"))
    for place, span in enumerate(spans):
        y = 20 + place * row
        parts.append(_figure(left - 12, y + 5, span.label, anchor="end", kind="name"))
        if span.low is not None and span.high is not None:
            parts.append(_line(across(span.low), y, across(span.high), y, f"span {span.tone}"))
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="5.5"/>').format(
                span.tone, _r(across(span.value)), y
            )
        )
        parts.append(_figure(WIDTH - 4, y + 5, _percent(span.value), anchor="end"))
    return _svg(parts, height, title)


def line_chart(
    points: Sequence[tuple[float, float]], title: Label, *, below: Label, digits: int = 3
) -> Markup:
    """A curve through (x, y) points, with the last one marked."""
    left, right, height, foot = 52, 56, 240, 40
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    y_low, y_high = _room(min(ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x_low) / (x_high - x_low) * (CURVE_WIDTH - left - right)
        return _r(across), _r(12 + (y_high - y) / (y_high - y_low) * (height - foot - 12))

    parts = []
    for tick in ticks(y_low, y_high):
        _, y_at = at(x_low, tick)
        parts += [_line(left, y_at, CURVE_WIDTH - right, y_at, "grid")]
        parts += [_figure(left - 8, y_at + 4, f"{tick:.{digits}g}", anchor="end", kind="tick")]
    for tick in ticks(x_low, x_high):
        if tick == int(tick):
            parts.append(
                _figure(at(tick, y_low)[0], height - foot + 18, str(int(tick)), anchor="middle", kind="tick")
            )
    path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
    parts.append(Markup('<polyline class="curve" points="{}"/>').format(path))
    x, y = at(*points[-1])
    parts.append(Markup('<circle class="dot joined" cx="{}" cy="{}" r="4.5"/>').format(x, y))
    parts.append(_figure(x + 9, y + 4, f"{ys[-1]:.{digits}f}"))
    parts.append(_text((left + CURVE_WIDTH - right) / 2, height - 4, below, anchor="middle", kind="tick"))
    return _svg(parts, height, title, width=CURVE_WIDTH)


def reliability_chart(bins: Sequence[tuple[float, float, int]], title: Label, *, across: Label) -> Markup:
    """Predicted against observed shares, beside the diagonal of a perfectly calibrated predictor."""
    side, left, top = 260, 60, 12
    most = max(count for _, _, count in bins) or 1
    parts = [_line(left, top + side, left + side, top, "zero")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * side, top + (1 - tick) * side
        parts += [_line(left, y, left + side, y, "grid")]
        parts += [_figure(left - 8, y + 4, f"{tick:.0%}", anchor="end", kind="tick")]
        parts += [_figure(x, top + side + 18, f"{tick:.0%}", anchor="middle", kind="tick")]
    for predicted, observed, count in bins:
        radius = 3 + 7 * math.sqrt(count / most)
        x, y = _r(left + predicted * side), _r(top + (1 - observed) * side)
        parts.append(Markup('<circle class="dot joined" cx="{}" cy="{}" r="{}"/>').format(x, y, _r(radius)))
    parts.append(_text(left + side / 2, top + side + 40, across, anchor="middle", kind="tick"))
    return _svg(parts, top + side + 48, title, width=left + side + 24)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about `count` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) + 0.0 for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _room(low: float, high: float) -> tuple[float, float]:
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - pad, high + pad


def _percent(share: float) -> str:
    return f"{share:+.0%}".replace("-", "\N{MINUS SIGN}") if round(share, 2) else "0%"


def _r(value: float) -> float:
    return round(value, 1)


def _svg(parts: Sequence[Markup], height: float, title: Label, *, width: float = WIDTH) -> Markup:
    inside = Markup("\n").join(parts)
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" style="max-width:{w}px" role="img" aria-label="{en} / {zh}">'
        "{inside}</svg>"
    ).format(w=_r(width), h=_r(height), en=title.en, zh=title.zh, inside=inside)


def _rect(x: float, y: float, width: float, height: float, tone: str) -> Markup:
    return Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="3"/>').format(
        tone, _r(x), _r(y), _r(width), height
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        kind, _r(x1), _r(y1), _r(x2), _r(y2)
    )


def _whisker(low: float, high: float, y: float) -> Markup:
    return (
        _line(low, y, high, y, "whisker")
        + _line(low, y - 4, low, y + 4, "whisker")
        + _line(high, y - 4, high, y + 4, "whisker")
    )


def _figure(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "value") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _r(x), _r(y), anchor, text
    )


def _text(x: float, y: float, label: Label, *, anchor: str, kind: str) -> Markup:
    return _figure(x, y, label.en, anchor=anchor, kind=f"{kind} t-en") + _figure(
        x, y, label.zh, anchor=anchor, kind=f"{kind} t-zh"
    )
