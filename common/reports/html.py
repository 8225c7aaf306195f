"""The report of a run: one HTML file that opens offline, in English and in Chinese.

Invariant: everything that comes from a shop is escaped (autoescape, and a content policy that loads nothing from
elsewhere); the file is written whole or not at all.

>>> write_report(Path("runs/demo"), None)  # doctest: +SKIP
PosixPath('runs/demo/report.html')
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.files import write_whole
from common.reports.charts import behaviour_rows, charts
from common.reports.figures import Label
from common.reports.promise import promise
from common.reports.samples import PictureSource, read_samples
from common.reports.shapes import number
from common.reports.story import Story, read_story
from common.reports.verdicts import count_sentence, opponent_name
from common.reports.words import GLOSSARY, METHOD_NOTES, SLICES, behaviour_name


def write_report(run_dir: Path, pictures: PictureSource | None = None) -> Path:
    """Write `report.html` into a run folder and return its path.

    Parameters
    ----------
    pictures : the sites' products, for sample recommendations; without it they are shown by item id.

    Raises
    ------
    RunError : there is no run in the folder, or its settings or list of sites are damaged.
    """
    story = read_story(run_dir)
    page = _environment().get_template("report.html").render(_facts(story, pictures))
    target = run_dir / "report.html"
    write_whole(target, page.encode("utf-8"))
    return target


def _facts(story: Story, pictures: PictureSource | None) -> dict[str, Any]:
    return {
        "story": story,
        "charts": charts(story),
        "counts": count_sentence(story.verdicts),
        "method_notes": METHOD_NOTES,
        "slices": [row for row in story.slices if row.name in SLICES],
        "slice_names": SLICES,
        "glossary": GLOSSARY,
        "samples": read_samples(story, pictures),
        "behaviour": behaviour_rows(story),
        "traffic": traffic(story),
        "fewest_rows": int(number(story.details.get("macro_counts_sites_with_rows")) or 0),
        "settings": flat_settings(story.config.model_dump(mode="json")),
        "promise": promise(story.config),
        "quarantined": sorted(
            {story.title_of(name) for round_ in story.rounds for name in round_.quarantined}
        ),
    }


def traffic(story: Story) -> dict[str, float] | None:
    """Bytes sent: in all, and per site and round in each direction; None if no round was logged."""
    trips = sum(round_.sites for round_ in story.rounds)
    if not trips:
        return None
    up, down = sum(r.bytes_up for r in story.rounds), sum(r.bytes_down for r in story.rounds)
    return {
        "up": up, "down": down, "up_each": up / trips, "down_each": down / trips,
        "numbers": down / trips / 4, "seconds": sum(r.seconds for r in story.rounds),
    }  # fmt: skip


def flat_settings(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted rows."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += flat_settings(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", str(value).lower() if isinstance(value, bool) else str(value)))
    return rows


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(figure=figure, percent=percent, gain=gain, size=size)
    environment.globals.update(
        t=both, named=lambda name: _both_of(opponent_name(name)), say=_both_of, predictor=behaviour_name
    )
    return environment


def both(en: str, zh: str) -> Markup:
    """One text in both languages; the page shows the reader's."""
    return Markup('<span class="t-en" lang="en">{}</span><span class="t-zh" lang="zh">{}</span>').format(
        en, zh
    )


def _both_of(label: Label) -> Markup:
    return both(label.en, label.zh)


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share as a percentage, or a dash."""
    return "–" if share is None else f"{share:.0%}"


def gain(share: float | None) -> str:
    """A signed percentage with a true minus sign, or a dash."""
    return "–" if share is None else f"{share:+.1%}".replace("-", "\N{MINUS SIGN}")


def size(count: float) -> str:
    """A number of bytes, in units that people read.

    >>> size(185_000), size(12)
    ('185 kB', '12 B')
    """
    units = ["B", "kB", "MB", "GB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.0f} {units[0]}" if count >= 100 or units[0] == "B" else f"{count:.1f} {units[0]}"
