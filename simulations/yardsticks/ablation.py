"""What each modality contributes: the league is trained again without it, and scored on the same test rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.trainer import open_site
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder

WITHOUT = {"text": {"model.text": False}, "image": {"model.image": False}}


def ablate(folder: RunFolder, config: LeagueConfig) -> dict[str, dict[str, float]]:
    """Macro NDCG@20 of what is deployed without each modality, by the same rounds in this process."""
    figures_without = {}
    members = [entry for entry in folder.sites() if not entry.held_out]
    for name, change in WITHOUT.items():
        changed = with_overrides(config, change)
        sites = [open_site(Path(entry.folder), changed) for entry in members]
        vector = sites[0].initial()
        weights = np.sqrt([site.prepare()["users"] for site in sites])
        for round_ in range(1, config.rounds.count + 1):
            updates = [site.train(vector, round_).update for site in sites]
            vector = vector + np.average(updates, axis=0, weights=weights).astype(np.float32)
        scratch = folder.root / "ablation" / f"without-{name}"
        figures = [site.evaluate_final(vector, scratch / site.name) for site in sites]
        values = [f["final/ndcg@20"] for f in figures if "final/ndcg@20" in f]
        figures_without[name] = {"ndcg@20": float(np.mean(values))}
    return figures_without
