"""Answers from a finished run: recommendations and predictions, also for users never seen in training.

A site's own model and fitted weights (``private.safetensors``, ``private.json``) are read from its results folder. A
history given on the command line becomes a user of its own, seen a minute after its last event.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.torch import load_file

from clients.behaviour.home import AtHome
from clients.behaviour.site import BehaviourSite
from clients.behaviour.tasks import intent
from clients.data.arrays import prepare_site
from clients.data.dataset import KINDS, PURCHASE, Log, SiteDataset
from clients.data.source import open_house
from clients.evaluation.methods import Deployed, Intent
from clients.evaluation.outputs import ForUse, end_of_log, predict_now, recommend_rows, rows_now
from clients.signals.names import COLUMNS
from clients.tower import Tower, attach_residual
from clients.trainer import open_site
from common.errors import InputError, RunError
from common.files import read_json
from common.models.model import HansaModel
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder
from simulations.runs.results import Metrics, Prediction, Recommendation
from simulations.runs.summary import summarise

NEW_USER = "(new user)"


class Served:
    """One site of a finished run, ready to answer."""

    def __init__(self, run_dir: Path, site: str) -> None:
        folder = RunFolder(run_dir)
        self.config: LeagueConfig = folder.config()
        entries = {entry.name: entry for entry in folder.sites()}
        if site not in entries:
            raise RunError(
                f"the run has no site '{site}'",
                where=str(run_dir),
                next_step=f"sites: {', '.join(sorted(entries))}",
            )
        out = folder.site_out(site)
        if not (out / "private.json").exists():
            raise RunError(
                f"site '{site}' has no results yet", where=str(run_dir), next_step=f"hansa resume {run_dir}"
            )
        with open_house(Path(entries[site].folder)) as house:
            data = house.data
            self.language = data.language
            self.titles = dict(zip(data.products["item_id"], data.products["title"], strict=True))
            self.dataset = prepare_site(data, self.config, house.features)
        choices = read_json(out / "private.json")
        self.deployed = _deployed(choices)
        self.buyers = _buyers(choices)
        self.tower = self._tower(out / "private.safetensors") if self.deployed.tower else None

    def _tower(self, path: Path) -> HansaModel:
        model = Tower(self.dataset, self.config).fresh().eval()
        attach_residual(model, self.dataset)
        model.load_state_dict(load_file(path))
        return model

    def use(self, dataset: SiteDataset) -> ForUse:
        """What the site deploys, over its dataset or one with a user more."""
        return ForUse(self.tower, self.deployed, self.buyers, asks(dataset))

    def user_number(self, user: str) -> int:
        """A known user's number.

        Raises
        ------
        InputError : the site doesn't know the user.
        """
        if user not in self._numbers:
            raise InputError(
                f"the site has no user '{user}'", where=self.dataset.name,
                next_step="give --history item1,item2 for a user who is new",
            )  # fmt: skip
        return self._numbers[user]

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.dataset.user_ids)}

    def with_user(self, user: str | None, history: list[str]) -> tuple[SiteDataset, int]:
        """The dataset and the user's number; a new user is added with purchases a minute apart."""
        if user is not None:
            return self.dataset, self.user_number(user)
        items = {name: at for at, name in enumerate(self.dataset.item_ids)}
        unknown = [item for item in history if item not in items]
        if unknown or not history:
            raise InputError(
                f"the site has no item {', '.join(repr(u) for u in unknown[:3])}"
                if unknown
                else "the history is empty",
                where=self.dataset.name,
                next_step="give item ids of this site's products, oldest first",
            )
        log, number = self.dataset.log, len(self.dataset.user_ids)
        times = end_of_log(self.dataset) - 60 * np.arange(len(history), 0, -1)
        joined = Log.of(
            np.concatenate([log.user, np.full(len(history), number)]),
            np.concatenate([log.item, [items[i] for i in history]]),
            np.concatenate([log.kind, np.full(len(history), PURCHASE)]),
            np.concatenate([log.time, times]),
            number + 1,
        )
        learners = np.append(self.dataset.learners, False)
        users = (*self.dataset.user_ids, NEW_USER)
        return replace(self.dataset, log=joined, user_ids=users, learners=learners), number


def asks(dataset: SiteDataset) -> Intent:
    """The question who will buy, over a dataset."""
    return Intent(BehaviourSite(dataset), intent(dataset.split))


def _buyers(choices: Any) -> AtHome:
    kept = choices["intent"]
    firmness = np.inf if kept["firmness"] is None else float(kept["firmness"])
    return AtHome(
        np.asarray(kept["weights"], np.float64), firmness, float(kept["slope"]), float(kept["bias"])
    )


def _deployed(choices: Any) -> Deployed:
    if tuple(choices.get("columns", ())) != COLUMNS:
        raise RunError(
            "the site's weights are of other signals", where="private.json", why="the run was made by other code",
            next_step="run it again, or take the code that made it",
        )  # fmt: skip
    weights, league = (np.asarray(choices[name], np.float64) for name in ("weights", "league"))
    return Deployed(weights, league, float(choices["tower"]))


def recommend(run_dir: Path, site: str, user: str | None, history: list[str], k: int) -> list[Recommendation]:
    """The best ``k`` items that the user hasn't touched.

    Raises
    ------
    RunError : no such run or site, or it has no results yet.
    InputError : the user or an item is unknown.
    """
    served = Served(run_dir, site)
    dataset, number = served.with_user(user, history)
    rows = rows_now(dataset, np.array([number]), served.config.model.history_length)
    table = recommend_rows(dataset, served.use(dataset), rows, k, served.language)
    return [
        Recommendation(
            row["rank"], row["item_id"], served.titles[row["item_id"]] or "", row["score"],
            f"{served.titles[row['history_item_id']] or row['history_item_id']}: {row['why']}",
        )
        for row in table.iter_rows(named=True)
    ]  # fmt: skip


def predict(run_dir: Path, site: str, user: str | None, history: list[str]) -> Prediction:
    """Purchase intent within the site's horizon, and the next event's kind. Raises as `recommend`."""
    served = Served(run_dir, site)
    dataset, number = served.with_user(user, history)
    table = predict_now(dataset, served.use(dataset))
    rows_found = table.filter(pl.col("user_id") == dataset.user_ids[number])
    if rows_found.is_empty():
        raise InputError(f"the site knows nothing of user '{user}' but the name", where=site)
    return Prediction(**rows_found.row(0, named=True))


def evaluate(run_dir: Path) -> Metrics:
    """Recompute every site's figures of the released model from its data, and the tables from them."""
    from safetensors.numpy import load_file as load_arrays

    from common.protocol.wire import Layout

    folder = RunFolder(run_dir.resolve())
    config = folder.config()
    release = folder.model
    if not release.exists():
        raise RunError("the run has no release yet", where=str(run_dir), next_step=f"hansa resume {run_dir}")
    arrays = load_arrays(release)
    for entry in folder.sites():
        site = open_site(Path(entry.folder), config)
        layout: Layout = site.layout()
        site.evaluate_final(layout.flatten(arrays), folder.site_out(entry.name))
    details = read_json(folder.root / "details.json") if (folder.root / "details.json").exists() else {}
    return summarise(folder, details.get("timing", {}), details.get("ablation"))


__all__ = ["KINDS", "Served", "evaluate", "predict", "recommend"]
