"""One cohort's training: who is drawn, what each site is sent, and how its update enters the sum.

Invariant: a reply is checked whole before anything of it counts, and what a site claims of itself is never a weight.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from flwr.app import RecordDict

from common.errors import WireError
from common.privacy.receipts import LedgerHead
from common.protocol import wire
from common.secagg.suspicion import to_json
from server.aggregation.plain import Protection
from server.messages.screen import claimed_weight, finite_metrics
from server.run.receipts import Receipts, ledger_head, with_receipt
from server.run.run import Question, Reply, Run
from server.run.state import Outcome
from server.secagg.refusals import judged_before, refusals_before
from server.secagg.uploads import GroupedSum


class _Update(NamedTuple):
    """What one good reply brings: the checked payload, the site's figures and the head of its privacy ledger."""

    payload: Any
    metrics: dict[str, float]
    head: LedgerHead | None


def choose_cohort(run: Run) -> list[str]:
    """The round's sites, drawn from the public seed and in site order, without those that spoiled groups."""
    barred = judged_before(run.league, run.round).named
    names = [name for name in run.names if name not in barred]
    size = math.ceil(run.rounds.fraction * len(names))
    if size == len(names):
        return names
    drawn = np.random.default_rng([run.config.seed, run.round]).choice(len(names), size=size, replace=False)
    return [names[place] for place in sorted(drawn.tolist())]


def train_cohort(run: Run, cohort: list[str], total: Protection[Any]) -> Outcome:
    """Send the model to the cohort and fold each good update into `total` as it comes."""
    outcome = Outcome()
    places = {name: place for place, name in enumerate(cohort)}
    for name in cohort:
        if name not in run.roster.nodes:
            total.skip(places[name])
            outcome.quarantined[name] = "not connected"

    receipts, heads = Receipts(run.league.receipts), {}
    question = Question(
        wire.TRAIN, str(run.round), run.round, run.state.layout.digest, run.rounds.protection,
        within_s=run.left_s("train"),
    )  # fmt: skip
    orders = _orders(run, run.present(cohort), total, receipts)
    for name, update in run.ask(question, orders, lambda reply: _read(reply, total)):
        if isinstance(update, WireError):
            total.skip(places[name])
            outcome.quarantined[name] = update.what
            continue
        total.fold(places[name], update.payload, run.state.weights[name])
        if update.head is not None:
            heads[name] = update.head
        outcome.metrics[name] = update.metrics
        outcome.bytes_up += update.payload.nbytes
    receipts.note(heads)
    outcome.metrics = {name: outcome.metrics[name] for name in cohort if name in outcome.metrics}
    outcome.quarantined = {name: outcome.quarantined[name] for name in cohort if name in outcome.quarantined}
    return outcome


def _read(reply: Reply, total: Protection[Any]) -> _Update:
    claimed_weight(reply.header, where=reply.where)
    head = ledger_head(reply.header)
    metrics = finite_metrics(reply.content, where=reply.where)
    return _Update(total.check(reply.content, site=reply.site, where=reply.where), metrics, head)


def _orders(run: Run, names: list[str], total: Protection[Any], receipts: Receipts) -> dict[str, RecordDict]:
    """What each site is sent; the model is one for all of a group, since a copy a site would grow with the cohort."""
    attempts = total.attempts() if isinstance(total, GroupedSum) else {}
    by_attempt = {attempt: _order(run, attempt) for attempt in set(attempts.values()) or {""}}
    return {name: with_receipt(by_attempt[attempts.get(name, "")], receipts.of(name)) for name in names}


def _order(run: Run, attempt: str) -> RecordDict:
    plan: dict[str, str | int | float | bool] = {}
    if attempt:
        plan = {"attempt": attempt, "refusals": to_json(refusals_before(run.league, run.round))}
    header = wire.Header(
        run.league.run, run.round, layout=run.state.layout.digest, protection=run.rounds.protection, plan=plan
    )
    return wire.pack(header, vector=None if run.rounds.encrypted else run.state.vector)
