"""The model card of a release, in Markdown: what it is, what it was trained on, how good it is, and its limits."""

from __future__ import annotations

from pathlib import Path

from common.reports.promise import promise
from common.reports.story import SCORE, Story, read_story
from common.reports.verdicts import count_sentence
from common.reports.words import METHOD_NOTES, method_name
from common.settings.config import LeagueConfig

_METRICS = (SCORE, "recall@20", "capped_recall@20", "auc", "log_loss")
_PROTECTION = {
    "plain": "Protection `plain`: **the coordinator sees every site's update in clear.** An update can tell about the "
    "data that it was trained on. Use it only where the coordinator is trusted.",
    "masked": "Protection `masked`: the coordinator saw the sum of the updates of each round, and no single update "
    "unless all other sites colluded with it or it forged keys when they were first exchanged.",
    "he": "Protection `he`: the coordinator saw ciphertexts only. **Whoever holds the league's key, which each "
    "site does, can read each update that is passed on.** Use it only where sites and coordinator don't collude.",
    "ckks": "Protection `ckks`: the coordinator saw ciphertexts only and got no model. **Whoever gets this model and "
    "holds the ciphertexts of its rounds can compute the league's key and read each update:** don't publish it. Use "
    "`he+masked` where that matters.",
    "he+masked": "Protection `he+masked`: the coordinator saw ciphertexts only, and with a site that holds "
    "the league's key only the sum of each round, unless it forged keys when they were first exchanged.",
}


def model_card(run_dir: Path) -> str:
    """The card of the model in a run folder.

    Raises
    ------
    RunError : there is no run in the folder, or its settings or list of sites are damaged.
    """
    story = read_story(run_dir)
    parts = [_heading(story), _sites(story), _quality(story), _privacy(story), _limits(), _settings(story)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(story: Story) -> str:
    kind = (
        "ready-made text and picture encoders"
        if story.config.model.encoders == "frozen"
        else "encoders trained here"
    )
    return (
        f"# Model card: {_cell(story.config.name)}\n\n"
        f"A recommender and a behaviour predictor, trained together by {len(story.trained)} sites in "
        f"{len(story.rounds) or story.config.rounds.count} rounds, with {kind}. A customer is described by their own "
        "history of items, so the model serves customers and catalogues that it has never seen."
    )


def _sites(story: Story) -> str:
    split = story.config.split
    rows = [
        f"| {_cell(site.title or site.name)} | {_cell(site.language)} | {_cell(site.region) or '–'} "
        f"| {'no (held out)' if site.held_out else 'yes'} |"
        for site in story.sites
    ]
    span = (
        f"Validation from {split.validation_from or 'the site’s own date'}, test from "
        f"{split.test_from or 'the site’s own date'} until {split.test_until or 'the end of the data'}; training on "
        "all that came before."
    )
    return "\n".join(
        ["## Data", "", span, "", "| site | language | region | trained |", "|---|---|---|---|", *rows]
    )


def _quality(story: Story) -> str:
    methods = story.methods
    if not methods:
        return "## Quality\n\nNot measured."
    rows = []
    for name in methods:
        values = " | ".join(_figure(story.value(name, metric)) for metric in _METRICS)
        note = METHOD_NOTES.get(name)
        label = f"{_cell(method_name(name).en)}: {note.en}" if note else _cell(method_name(name).en)
        rows.append(f"| {label} | {values} | {_figure(story.value(name, SCORE, 'worst'))} |")
    head = "| method | " + " | ".join(_METRICS) + " | worst site |"
    lines = [
        "## Quality",
        "",
        *_worth(story),
        "Mean over sites, all items of a shop ranked, split by time.",
        "",
        head,
    ]
    lines += ["|---|" + "---:|" * (len(_METRICS) + 1), *rows, "", *_per_site(story)]
    return "\n".join(lines)


def _worth(story: Story) -> list[str]:
    """What joining brought, against the strongest that merchants could deploy alone; Chinese below."""
    head, counts = story.headline, count_sentence(story.verdicts)
    if head is None:
        return [
            "What merchants could deploy alone wasn't measured, or on too few customers, so nothing is said of whether "
            "joining pays.",
            "",
        ]
    private = head.over.get("non_private")
    cost = [f"Over the same league without privacy: {private.words}."] if private else []
    english = [
        f"**{head.short.en}**",
        head.sentence.en,
        *([counts.en] if counts else []),
        *cost,
    ]
    chinese = [f"**{head.short.zh}**", head.sentence.zh, *([counts.zh] if counts else [])]
    return [" ".join(english), "", "".join(chinese), ""]


def _per_site(story: Story) -> list[str]:
    method = "final"
    rows = []
    for site in story.sites:
        values = [story.site_value(method, metric, site.name) for metric in _METRICS]
        if any(value is not None for value in values):
            rows.append(
                f"| {_cell(site.title or site.name)} | {' | '.join(_figure(value) for value in values)} |"
            )
    if not rows:
        return []
    head = f"| site ({method_name(method).en.lower()}) | " + " | ".join(_METRICS) + " |"
    return [head, "|---|" + "---:|" * len(_METRICS), *rows]


def _privacy(story: Story) -> str:
    protection = story.config.rounds.protection
    return (
        "## Privacy\n\n"
        "- Products, pictures, reviews, logs and user ids stay at the sites; vectors of model parameters and figures "
        "of evaluation travel.\n"
        f"- {_guarantee(story.config)}\n"
        f"- {_PROTECTION.get(protection, f'Protection `{protection}`.')}"
    ) + "".join(
        f"\n- {_cell(story.title_of(name))} took no part from round {round_} on: its own privacy budget was spent."
        for name, round_ in story.stopped.items()
    )


def _guarantee(config: LeagueConfig) -> str:
    """What the training promises and what it doesn't, in plain words; Chinese below."""
    parts = promise(config)
    english = " ".join([f"**{parts[0].en}**", *(part.en for part in parts[1:])])
    chinese = "".join([f"**{parts[0].zh}**", *(part.zh for part in parts[1:])])
    return f"{english}\n- {chinese}"


def _limits() -> str:
    return (
        "## Limits\n\n"
        "- The figures hold for these sites and this span of time; measure again on your own data before "
        "you rely on it.\n"
        "- Offline figures say what past customers chose, not what a recommendation would have changed.\n"
        "- Behaviour predictions are not fit for decisions about a person (credit, employment, prices for one person)."
    )


def _settings(story: Story) -> str:
    return (
        f"## Settings\n\nDigest of the settings: `{story.config.digest()}` (the same in every message, checkpoint and "
        f"report of this run). Seed {story.config.seed}."
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(text: str) -> str:
    """Escape a shop's text for Markdown: no markup, no line breaks, no table borders remain."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"&#{ord(letter)};" if letter in "<>&|`*_[]!#\\" else letter for letter in printable)
