"""A site that sends false training replies: scaled, sign-flipped, NaN or noise, or promoting one item.

It has all that a site has: its keys, its data and the league's code. It skips the site's own clipping, so its numbers
are limited only by the fields, and only the league's checks on sums and figures work against it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from flwr.app import Context, Message

from clients.app import app as honest_app
from clients.parts import Parts
from clients.secagg.site import SecaggSite
from clients.trainer import Site, open_site
from common.crypto.fields import MODULUS
from common.protocol import wire
from common.secagg.protocol import Attempt
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder

Attack = Literal["none", "scaled", "flipped", "nan", "promotion", "gentle"]
FACTORS: dict[Attack, float] = {
    "none": 1.0, "scaled": 30.0, "flipped": -5.0, "nan": float("nan"), "promotion": 5.0, "gentle": 2.0,
}  # fmt: skip
"""What the update is multiplied by; `promotion` and `gentle` are trained on a log in which everybody buys one item."""


class LyingApp:
    """The sites' app, in which one site sends false training replies.

    Parameters
    ----------
    place : the lying site's place among the league's sites.
    """

    def __init__(self, folder: RunFolder, config: LeagueConfig, place: int, attack: Attack) -> None:
        self._folder, self._config, self._place, self._attack = folder, config, place, attack
        self._site = open_site(Path(folder.sites()[place].folder), config)
        if attack in ("promotion", "gentle"):
            _promote(self._site)

    def answer(self, message: Message, context: Context) -> Message:
        """Like `clients.app.app`, except at the lying site."""
        lies = self._attack != "none" and context.node_config["partition-id"] == self._place
        if not lies or message.metadata.message_type != wire.TRAIN:
            return honest_app(message, context)
        header, site = wire.read_header(message.content, where="attack"), self._site
        layout, hidden = site.layout(), self._config.rounds.encrypted
        secagg = SecaggSite(self._folder.site_out(site.name) / "private", site.name, self._config, site)
        if hidden:
            vector = secagg.vector(header.round - 1)
        else:
            vector = wire.decode_floats(message.content, layout.size, where="attack")
        result = site.train(vector, header.round)
        update = (result.update * FACTORS[self._attack]).astype(np.float32)
        payload: wire.Payload = update
        if hidden:
            payload = np.frombuffer(self._protected(secagg, update, header), np.uint8)
        reply_header = wire.Header(
            header.run, header.round, site.name, layout.digest, header.protection, {"weight": 1.0}
        )
        return Message(wire.pack(reply_header, vector=payload, metrics=result.metrics), reply_to=message)

    def _protected(self, secagg: SecaggSite, update: wire.FloatVector, header: wire.Header) -> bytes:
        """Protect as much of the false update as fits the fields: it's cut to ± the range, but not to the norm."""
        attempt, rounds = Attempt.of(str(header.plan["attempt"])), self._config.rounds
        packing = attempt.packing(rounds)
        if self._attack == "nan":
            count = packing.words(update.size)
            return secagg.protect_packed(
                np.random.default_rng(0).integers(0, MODULUS, count, dtype=np.uint64), attempt
            )
        unit = attempt.share([secagg.name]) * attempt.scale(rounds)
        whole = np.rint(np.clip(update.astype(np.float64), -rounds.clip_range, rounds.clip_range) * unit)
        return secagg.protect_packed(packing.pack(whole.astype(np.int64)), attempt)


def _promote(site: Site) -> None:
    """Change the site's log so that nearly everybody has bought one item."""
    if site.tower is None:
        return
    data = site.tower.before_validation
    items = data.log.item.copy()
    items[data.target_rows[np.arange(len(data.target_rows)) % 5 > 0]] = items[data.target_rows[0]]
    log = dataclasses.replace(data.log, item=items)
    site.tower.__dict__["before_validation"] = dataclasses.replace(data, log=log)
    # The ranker learns from the same false log.
    whole = site.dataset.log
    touched = np.flatnonzero(whole.item >= 0)
    false = whole.item.copy()
    false[touched[np.arange(len(touched)) % 5 > 0]] = items[data.target_rows[0]]
    site.parts = Parts(
        dataclasses.replace(site.dataset, log=dataclasses.replace(whole, item=false)), site.config
    )
