"""A small drawn site as arrays, without any encoder: fast, and open to every kind of change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from clients.data.dataset import DAY_S, Ints, Log, Reviews, SiteDataset, Split
from clients.data.facts import ItemFacts
from clients.data.rows import TestRows
from common.models.model import ItemInputs
from common.settings.config import LeagueConfig
from common.settings.load import load_config

START = 20_000 * DAY_S
TEXT, IMAGE = 12, 10
CONFIG: LeagueConfig = load_config(
    {
        "model": {
            "item_dim": 8,
            "hidden_dim": 16,
            "projection_dim": 16,
            "history_length": 6,
            "categories": ["a", "b"],
        },
        "training": {"batch_size": 8, "negatives": 16, "min_steps_per_round": 2},
    }
)


def drawn_log(seed: int, n_users: int = 20, n_items: int = 15, events: int = 400, days: int = 40) -> Log:
    """Events at random moments, with ties in time, searches, and at least one user without events."""
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 5, events)
    item = np.where(kind == 4, -1, generator.integers(0, n_items, events))
    user = generator.integers(0, n_users - 1, events)
    time = START + generator.integers(0, days * 48, events) * (DAY_S // 48)
    return Log.of(user, item, kind, time, n_users)


def drawn_site(seed: int = 0, n_users: int = 20, n_items: int = 15, events: int = 400) -> SiteDataset:
    """A site of forty days: validation from day 24, test from day 32."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.nn.functional.normalize(torch.randn(n_items, 128, generator=generator), dim=1)
    items = ItemInputs(
        text=torch.randn(n_items, TEXT, generator=generator),
        image=torch.randn(n_items, IMAGE, generator=generator),
        has_text=torch.ones(n_items, dtype=torch.bool),
        has_image=torch.arange(n_items) % 4 != 0,
        raw=raw,
        category=torch.arange(n_items) % 2,
        row=torch.arange(n_items),
    )
    drawn = np.random.default_rng(seed)
    authors = np.sort(drawn.integers(0, n_users, 30))
    reviews = Reviews(
        authors,
        torch.randn(30, TEXT, generator=generator),
        drawn.integers(-1, 2, 30),
        START + drawn.integers(0, 40, 30) * DAY_S,
    )
    return SiteDataset(
        name="small",
        user_ids=tuple(f"u{i:02d}" for i in range(n_users)),
        item_ids=tuple(f"i{i:02d}" for i in range(n_items)),
        items=items,
        log=drawn_log(seed, n_users, n_items, events),
        reviews=reviews,
        split=Split(START + 24 * DAY_S, START + 32 * DAY_S, START + 40 * DAY_S),
        learners=np.ones(n_users, bool),
        facts=ItemFacts.unknown(n_items),
    )


def with_other_future(site: SiteDataset, from_s: int, seed: int) -> SiteDataset:
    """The same site with every event from an instant on replaced by another."""
    past, other = site.log.before(from_s), drawn_log(seed, site.log.n_users, site.n_items, len(site.log))
    future = other.where(other.time >= from_s)
    joined = Log.of(
        *(np.concatenate([getattr(past, f), getattr(future, f)]) for f in ("user", "item", "kind", "time")),
        site.log.n_users,
    )
    return replace(site, log=joined)


def dense(rows: TestRows, pairs: tuple[Ints, Ints], n_items: int) -> dict[int, set[int]]:
    """User → items of the wanted or barred pairs."""
    mask = rows.mask(pairs, slice(0, len(rows)), n_items)
    return {int(u): set(np.flatnonzero(m).tolist()) for u, m in zip(rows.user, mask, strict=True)}
