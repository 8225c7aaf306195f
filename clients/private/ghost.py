"""The clipped sum of users' gradients without the gradients of the largest layers: ghost norms on a catalogue.

With frozen encoders, nearly all numbers of a model lie in the first layer of each adapter, which reads an item's cached
features x. A user's gradient there is Σ g xᵀ over the rows of the user's sample, so its squared norm is
Σ (g·g′)(x·x′) (Goodfellow 2015, arXiv:1510.01799; ghost clipping: Li et al. 2021, arXiv:2110.05679), and x·x′ of all
items is known before the first step. The weighted sum needs one more product over the items that occur, not over
users. Items are adapted and fused once a step (`fused`), and the small layers after that take Opacus's hooks.
Invariant: equals `gradients.clipped_sum` of `hooks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from clients.dataset import SiteDataset
from clients.private.fused import Fused, pull
from clients.private.gradients import Gradients, factors
from clients.private.objective import UserLosses
from clients.private.sample import UserRows, review_texts
from common.models.fusion import Adapter, LinearAdapter


class Catalogue:
    """A site's frozen item features with all their products, made once and used in every step."""

    def __init__(self, site: SiteDataset) -> None:
        self.site = site
        self.text, self.image = site.items.text, site.items.image
        self.text_products, self.image_products = self.text @ self.text.T, self.image @ self.image.T


@dataclass(frozen=True)
class _First:
    """Gradients (b, n, w) at a first layer's outputs: of catalogue rows (b, n), then of reviews' features beside."""

    layer: nn.Linear
    grown: Tensor
    features: Tensor
    products: Tensor
    items: Tensor
    beside: Tensor | None


def ghost(losses: UserLosses, users: UserRows, catalogue: Catalogue, clip: float) -> Gradients:
    """Sum over users of their gradients, each scaled to a norm of ``clip`` at most.

    The model must have frozen encoders.
    """
    with _hooked(losses) as per_user:
        firsts = _firsts(losses, users, catalogue, per_user)
    kept = {id(p) for first in firsts for p in first.layer.parameters()}
    small = {name: per_user[p] for name, p in losses.named_parameters() if id(p) not in kept}
    squares = [part.flatten(1).square().sum(1) for part in small.values()]
    squares += [_squared_norms(first) for first in firsts]
    factor = factors(torch.stack(squares).double().sum(0).sqrt(), clip).float()
    total = {name: torch.tensordot(factor, part, dims=1) for name, part in small.items()}
    names = {id(p): name for name, p in losses.named_parameters()}
    for first in firsts:
        weight, bias = _weighted(first, factor)
        total[names[id(first.layer.weight)]] = weight
        if first.layer.bias is not None:
            total[names[id(first.layer.bias)]] = bias
    return {name: part.double() for name, part in total.items()}


@contextmanager
def _hooked(losses: UserLosses) -> Iterator[dict[nn.Parameter, Tensor]]:
    """Opacus's hooks on all layers; what they found stands in the result when the context ends."""
    losses.zero_grad(set_to_none=True)
    wrapped = GradSampleModule(losses, batch_first=True, loss_reduction="sum", strict=True)
    found: dict[nn.Parameter, Tensor] = {}
    try:
        with warnings.catch_warnings():
            # Some layers read data, which need no gradient: that is as it should be.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield found
        for parameter in losses.parameters():
            sample = getattr(parameter, "grad_sample", None)
            if sample is not None:
                found[parameter] = sample.detach()
    finally:
        wrapped.to_standard_module()
        losses.zero_grad(set_to_none=True)


def _firsts(
    losses: UserLosses, users: UserRows, catalogue: Catalogue, found: dict[nn.Parameter, Tensor]
) -> tuple[_First, _First]:
    """Backward from the losses to the adapters' first layers; the fusion's gradients go to ``found``."""
    model, site, rows = losses.model, catalogue.site, users.items
    beside = review_texts(site, users.reviews, users.labels)
    adapters = model.text_adapter, model.image_adapter
    with torch.no_grad():
        entered = adapters[0].first(catalogue.text), adapters[1].first(catalogue.image)
        fused = Fused.of(model, site.items, *(a.rest(e) for a, e in zip(adapters, entered, strict=True)))
        reviews = adapters[0].first(beside)
        at_reviews = adapters[0].rest(reviews)
    vectors = fused.vectors[rows].requires_grad_()
    read = at_reviews.requires_grad_()
    losses.of_vectors(vectors, read, site.items.raw[rows], users).sum().backward()
    pulled = pull(model, site.items, fused, rows, _gradient(vectors))
    # Reviews and items go through an adapter together, since a layer's hook counts one pass.
    text = torch.cat([pulled.text, _gradient(read)], dim=1)
    grown_text = _back(adapters[0], torch.cat([entered[0][rows], reviews], dim=1), text)
    grown_image = _back(adapters[1], entered[1][rows], pulled.image)
    found.update(pulled.fusion)
    return (
        _First(adapters[0].first, grown_text, catalogue.text, catalogue.text_products, rows, beside),
        _First(adapters[1].first, grown_image, catalogue.image, catalogue.image_products, rows, None),
    )


def _back(adapter: Adapter | LinearAdapter, entered: Tensor, grown: Tensor) -> Tensor:
    """Gradients at the first layer's outputs from those at the adapter's."""
    if isinstance(adapter, LinearAdapter):
        return grown
    leaf = entered.detach().requires_grad_()
    adapter.rest(leaf).backward(grown)
    return _gradient(leaf)


def _squared_norms(first: _First) -> Tensor:
    """(b,) squared norms of the first layer's gradients, bias included."""
    # A bias is a feature that is 1 everywhere.
    ones = 0.0 if first.layer.bias is None else 1.0
    items, n = first.items, first.items.shape[1]
    own = first.grown[:, :n].contiguous()
    pairs = (items[:, :, None] * len(first.products) + items[:, None, :]).flatten()
    alike = first.products.flatten().index_select(0, pairs).view(len(items), -1)
    total = torch.linalg.vecdot((own @ own.transpose(1, 2)).flatten(1), alike)
    if first.beside is not None:
        after, beside = first.grown[:, n:], first.beside
        across = beside @ first.features[items].transpose(1, 2)
        total = total + 2 * ((after @ own.transpose(1, 2)) * across).sum((1, 2))
        total = total + ((after @ after.transpose(1, 2)) * (beside @ beside.transpose(1, 2))).sum((1, 2))
    return total + ones * first.grown.sum(1).square().sum(1)


def _weighted(first: _First, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer's summed gradient: weight and bias."""
    grown = first.grown * factor[:, None, None]
    n, width = first.items.shape[1], grown.shape[2]
    by_item = torch.zeros(len(first.features), width)
    by_item.index_add_(0, first.items.flatten(), grown[:, :n].reshape(-1, width))
    weight = by_item.T @ first.features
    if first.beside is not None:
        weight += grown[:, n:].reshape(-1, width).T @ first.beside.flatten(0, 1)
    return weight, grown.sum((0, 1))


def _gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        raise AssertionError("the loss reads every leaf")
    return leaf.grad
