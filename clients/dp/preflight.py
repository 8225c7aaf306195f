"""Checks before the first private round, for faults that silently break differential privacy.

First the layers are checked by name. Then the site's own model, loss and data are tried: a unit's loss must not change
with the other units in the batch; a unit's sample must not change with another unit's records; and when one unit
leaves, the clipped sum must change by at most the clip, ‖S(B) − S(B∖i)‖ ≤ 1.0001 C. Opacus's own validator accepts all
faults that are refused here.

Invariant: the only thing a trial tells outside the site is that it passed. Trials take a few units and bounded time.
"""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import torch
from opacus.layers.dp_rnn import DPRNNBase
from torch import Tensor

from clients.data.dataset import Ints
from clients.dp.layers import layer_faults
from clients.dp.objective import UserLosses
from clients.dp.sample import UserBatch, UserRows, draw_users
from clients.dp.train import ClippedSum, clipped_sums
from clients.dp.units import without
from clients.training.samples import TrainingData
from common.errors import PrivacyError
from common.privacy.shared_noise import TOLERANCE
from common.settings.config import LeagueConfig

_UNITS = {"frozen": 8, "scratch": 3}
_SEED = 20  # the seed may be known: trials don't influence anything that is released


def preflight(losses: UserLosses, data: TrainingData, config: LeagueConfig, where: str) -> None:
    """Check the layers, then try model, loss and data.

    Raises
    ------
    PrivacyError : a fault was found; the message says which, what it breaks, and what to use.
    """
    _refuse(layer_faults(losses), where)
    units = data.users[: _UNITS[config.model.encoders]]
    if not len(units):
        return
    perturbed_losses = perturbed(losses)
    rows = draw_users(data, config, units, np.random.default_rng(_SEED))
    _refuse(loss_faults(perturbed_losses, rows.gathered(data.site)), where)
    _refuse(sample_faults(data, config, units), where)
    clips = sorted({config.privacy.clip, _middle_norm(perturbed_losses, rows, data, config)})
    for clip in clips:
        summed = clipped_sums(config, data, clip)
        _refuse(sensitivity_faults(perturbed_losses, rows, summed, clip), where)


def perturbed(losses: UserLosses) -> UserLosses:
    """A copy with random changes to all parameters: zeros of the first model could hide a fault."""
    copied, generator = copy.deepcopy(losses), torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return copied


def loss_faults(losses: UserLosses, batch: UserBatch) -> list[PrivacyError]:
    """Faults of layers that are used never or twice, and of losses that depend on the other units in the batch."""
    together = _counted(losses, batch)
    if isinstance(together, PrivacyError):
        return [together]
    if together.shape != (len(batch),):
        return [
            PrivacyError(
                f"the loss has shape {tuple(together.shape)}, not one number a unit",
                why="a mean over the batch couples its members, so that clipping one doesn't bound its influence",
                next_step="return a loss of shape (b,), with no reduction over the batch",
            )
        ]
    apart = torch.cat([losses(*batch.take(slice(i, i + 1)).parts()) for i in range(len(batch))])
    if not torch.allclose(together, apart, rtol=1e-4, atol=1e-5):
        return [
            PrivacyError(
                "a unit's loss changes with the others in its batch",
                why="class weights, in-batch negatives, contrastive terms and means over valid labels couple a batch: "
                "one unit then moves the sum by up to 2.3 times the clip",
                next_step="use sums of per-unit terms, and negatives from the catalogue drawn for each unit",
            )
        ]
    return []


def sample_faults(data: TrainingData, config: LeagueConfig, units: Ints) -> list[PrivacyError]:
    """Faults of samples that change when another unit's records are removed."""
    less = without(data, int(units[0]), config)
    before, after = (
        draw_users(dataset, config, units, np.random.default_rng(_SEED)).contents(dataset.site)
        for dataset in (data, less)
    )
    odd = [
        name
        for name, own, changed in zip(UserRows._fields, before, after, strict=True)
        if not torch.equal(own[1:], changed[1:])
    ]
    if not odd:
        return []
    return [
        PrivacyError(
            f"a unit's sample changes with another unit's records (in {odd[0]})",
            why="what is taken from all users, such as popularity or the earliest date, is told without noise",
            next_step="let a sample depend on the unit's own records and on public settings alone",
        )
    ]


def sensitivity_faults(
    losses: UserLosses, rows: UserRows, summed: ClippedSum, clip: float
) -> list[PrivacyError]:
    """A fault if one unit changes the clipped sum by more than the clip."""
    worst = sensitivity(losses, rows, summed)
    if worst <= TOLERANCE * clip:
        return []
    return [
        PrivacyError(
            f"one unit moves the clipped sum by {worst / clip:.2f} times the clip",
            why="noise is measured against a move of one clip, so the promised epsilon would be false",
            next_step="look for a layer or a loss that couples units, or gradients that miss a layer's second use",
        )
    ]


def sensitivity(losses: UserLosses, rows: UserRows, summed: ClippedSum) -> float:
    """max ‖S(B) − S(B∖i)‖ over the units i of a batch."""
    whole, worst = summed(losses, rows), 0.0
    for left_out in range(len(rows)):
        others = UserRows(*(torch.cat([part[:left_out], part[left_out + 1 :]]) for part in rows))
        moved = summed(losses, others) if len(others) else {}
        parts = ((part - moved[name] if moved else part).double() for name, part in whole.items())
        distance = sum(float(part.square().sum()) for part in parts)
        worst = max(worst, distance**0.5)
    return worst


def _counted(losses: UserLosses, batch: UserBatch) -> Tensor | PrivacyError:
    """The batch's losses, or a fault unless each layer with parameters was called once and is used in them."""
    calls: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, module in losses.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and not _within_recurrent(losses, name)
    ]
    try:
        unit_losses: Tensor = losses(*batch.parts())
    finally:
        for handle in handles:
            handle.remove()
    twice = [name for name, count in calls.items() if count > 1]
    if twice:
        return PrivacyError(
            f"layer '{twice[0]}' is used {calls[twice[0]]} times in one pass",
            why="gradients of its uses are taken for gradients of different units, and clipped apart",
            next_step="call it once on everything, joined along a dimension that isn't the batch",
        )
    named = dict(losses.named_parameters())
    gradients = torch.autograd.grad(
        unit_losses.sum(), list(named.values()), allow_unused=True, retain_graph=True
    )
    unused = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    if unused:
        return PrivacyError(
            f"parameter '{unused[0]}' has no part in the loss",
            why="it would get no gradient of any unit, and none of the noise is sure to reach it",
            next_step="add 0.0 * head(x).sum(-1) of each unit to the loss, or leave the head out of the model",
        )
    return unit_losses.detach()


def _within_recurrent(losses: UserLosses, name: str) -> bool:
    """Whether a layer is part of one of Opacus's recurrent layers, which add up their steps themselves."""
    parts = name.split(".")
    return any(isinstance(losses.get_submodule(".".join(parts[:n])), DPRNNBase) for n in range(1, len(parts)))


def _middle_norm(losses: UserLosses, rows: UserRows, data: TrainingData, config: LeagueConfig) -> float:
    """The median of the units' gradient norms: a trial with this clip clips some units and not the others."""
    unclipped = clipped_sums(config, data, 1e9)
    norms = []
    for unit in range(len(rows)):
        single = UserRows(*(part[unit : unit + 1] for part in rows))
        norms.append(sum(float(part.square().sum()) for part in unclipped(losses, single).values()) ** 0.5)
    return float(np.median([norm for norm in norms if norm > 0] or [config.privacy.clip]))


def _refuse(faults: list[PrivacyError], where: str) -> None:
    if faults:
        first, *others = faults
        more = "".join(f"; also: {fault.what}" for fault in others)
        raise PrivacyError(first.what + more, where=where, why=first.why, next_step=first.next_step)
