"""Layers that silently break differential privacy, each with what to use in its place."""

from __future__ import annotations

from collections import defaultdict

from opacus.grad_sample import GradSampleModule
from opacus.layers.dp_rnn import DPRNNBase
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import clients.dp.gradients.per_user  # noqa: F401 — registers how the model's own layers give per-unit gradients
from common.errors import PrivacyError


def layer_faults(module: nn.Module) -> list[PrivacyError]:
    """All faults of a model's layers; an empty list if it can be trained privately."""
    faults = [
        fault for name, layer in module.named_modules() for fault in _of_layer(name or "the root", layer)
    ]
    return faults + _tied(module)


def _of_layer(name: str, layer: nn.Module) -> list[PrivacyError]:
    faults = []
    if isinstance(layer, _BatchNorm):
        faults.append(PrivacyError(
            f"layer '{name}' is batch normalisation",
            why="it mixes the units of a batch: one moves the sum by up to 1.8 times the clip, frozen or not, and its "
            "running means would leave without noise",
            next_step="use GroupNorm or LayerNorm",
        ))  # fmt: skip
    elif any(True for _ in layer.buffers(recurse=False)):
        faults.append(PrivacyError(
            f"layer '{name}' holds buffers",
            why="what is no parameter gets no noise, and would leave the site as it is",
            next_step="keep statistics out of the model, or make them constants of the code",
        ))  # fmt: skip
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        faults += _of_embedding(name, layer)
    # Opacus's recurrent layers name their cells' parameters a second time.
    own = {} if isinstance(layer, DPRNNBase) else dict(layer.named_parameters(recurse=False))
    if own and type(layer) not in GradSampleModule.GRAD_SAMPLERS:
        faults.append(PrivacyError(
            f"parameter '{next(iter(own))}' of '{name}' belongs to no layer with a per-unit gradient",
            why="a parameter used outside a layer is skipped, or counted for the batch as a whole",
            next_step="put it into a submodule of its own, and register how its gradient is taken per unit",
        ))  # fmt: skip
    return faults


def _of_embedding(name: str, layer: nn.Embedding | nn.EmbeddingBag) -> list[PrivacyError]:
    faults = []
    if layer.max_norm is not None:
        faults.append(PrivacyError(
            f"embedding '{name}' has max_norm",
            why="rows are rescaled when they are read, which tells of them without noise",
            next_step="leave max_norm out; the clip bounds gradients",
        ))  # fmt: skip
    if layer.padding_idx is not None:
        faults.append(PrivacyError(
            f"embedding '{name}' has padding_idx",
            why="that row's gradient is dropped after it was counted: gradients are off by up to 18 %",
            next_step="let padding be a row like others and mask the output",
        ))  # fmt: skip
    if layer.sparse:
        faults.append(PrivacyError(
            f"embedding '{name}' is sparse", why="rows that no unit used would get no noise, and so tell who was there",
            next_step="use sparse=False",
        ))  # fmt: skip
    return faults


def _tied(module: nn.Module) -> list[PrivacyError]:
    """Faults for parameters, or whole layers, that are used in more than one place."""
    places: dict[int, list[str]] = defaultdict(list)
    for prefix, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, DPRNNBase):
            continue
        for name, parameter in layer.named_parameters(recurse=False, remove_duplicate=False):
            places[id(parameter)].append(f"{prefix}.{name}")
    return [
        PrivacyError(
            f"'{names[0]}' and '{names[1]}' are one parameter",
            why="the gradients of its uses are clipped apart, so a unit moves it by more than the clip",
            next_step="give each layer parameters of its own",
        )
        for names in places.values()
        if len(names) > 1
    ]
