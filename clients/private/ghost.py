"""The clipped sum of users' gradients without the gradients of the largest layers: ghost norms on a catalogue.

With frozen encoders, nearly all numbers of a model lie in the first layer of each adapter, which reads an item's cached
features x. A user's gradient there is Σ g xᵀ over the rows of the user's sample, so its squared norm is
Σ (g·g′)(x·x′) (Goodfellow 2015, arXiv:1510.01799; ghost clipping: Li et al. 2021, arXiv:2110.05679), and x·x′ of all
items is known before the first step. The weighted sum needs one more product over the items that occur, not over
users. The layers after it are small and take Opacus's hooks. Invariant: equals `gradients.clipped_sum` of `hooks`.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from clients.dataset import SiteDataset
from clients.private.gradients import Gradients, factors
from clients.private.objective import Features, UserLosses
from clients.private.sample import UserRows, review_texts


class Catalogue:
    """A site's frozen item features with all their products, made once and used in every step."""

    def __init__(self, site: SiteDataset) -> None:
        self.site = site
        self.text, self.image = site.items.text, site.items.image
        self.text_products, self.image_products = self.text @ self.text.T, self.image @ self.image.T


class _Entered(NamedTuple):
    """A first layer on what users met: its outputs as leaves (b, n, w), catalogue rows, reviews' features beside."""

    layer: nn.Linear
    leaf: Tensor
    features: Tensor
    products: Tensor
    items: Tensor
    beside: Tensor | None


def ghost(losses: UserLosses, users: UserRows, catalogue: Catalogue, clip: float) -> Gradients:
    """Sum over users of their gradients, each scaled to a norm of ``clip`` at most.

    The model must have frozen encoders.
    """
    model, site = losses.model, catalogue.site
    reviews = review_texts(site, users.reviews, users.labels)
    text = _enter(
        model.text_adapter.first,
        catalogue.text,
        catalogue.text_products,
        users.items,
        reviews,
    )
    image = _enter(model.image_adapter.first, catalogue.image, catalogue.image_products, users.items, None)
    small = _backward(losses, users, site, text, image)
    squares = [part.flatten(1).square().sum(1) for part in small.values()]
    squares += [_squared_norms(text), _squared_norms(image)]
    factor = factors(torch.stack(squares).double().sum(0).sqrt(), clip).float()
    total = {name: torch.tensordot(factor, part, dims=1) for name, part in small.items()}
    names = {id(p): name for name, p in losses.named_parameters()}
    for entered in (text, image):
        weight, bias = _weighted(entered, factor)
        total[names[id(entered.layer.weight)]] = weight
        if entered.layer.bias is not None:
            total[names[id(entered.layer.bias)]] = bias
    return {name: part.double() for name, part in total.items()}


def _enter(
    layer: nn.Linear, features: Tensor, products: Tensor, items: Tensor, beside: Tensor | None
) -> _Entered:
    with torch.no_grad():
        rows = layer(features)[items]
        if beside is not None:
            rows = torch.cat([rows, layer(beside)], dim=1)
    return _Entered(layer, rows.requires_grad_(), features, products, items, beside)


def _backward(
    losses: UserLosses, users: UserRows, site: SiteDataset, text: _Entered, image: _Entered
) -> Gradients:
    """Per-user gradients of all layers but the first ones, whose outputs' gradients stay at the leaves."""
    model, items = losses.model, site.items
    losses.zero_grad(set_to_none=True)
    features = Features(items.raw[users.items], items.has_text[users.items], items.has_image[users.items])
    wrapped = GradSampleModule(losses, batch_first=True, loss_reduction="sum", strict=True)
    try:
        with warnings.catch_warnings():
            # The first layers read data, which need no gradient: that is as it should be.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            adapted = model.text_adapter.rest(text.leaf), model.image_adapter.rest(image.leaf)
            losses.of_adapted(*adapted, features, users).sum().backward()
        first = {id(p) for entered in (text, image) for p in entered.layer.parameters()}
        return {
            name: p.grad_sample.detach()  # type: ignore[attr-defined]
            for name, p in losses.named_parameters()
            if id(p) not in first
        }
    finally:
        wrapped.to_standard_module()
        losses.zero_grad(set_to_none=True)


def _squared_norms(entered: _Entered) -> Tensor:
    """(b,) squared norms of the first layer's gradients, bias included."""
    grown = _gradient(entered)
    # A bias is a feature that is 1 everywhere.
    ones = 0.0 if entered.layer.bias is None else 1.0
    items, n = entered.items, entered.items.shape[1]
    pairs = (items[:, :, None] * len(entered.products) + items[:, None, :]).flatten()
    alike = entered.products.flatten().index_select(0, pairs).view(len(items), -1)
    inner = (grown[:, :n] @ grown[:, :n].transpose(1, 2)).flatten(1)
    total = torch.linalg.vecdot(inner, alike) + ones * grown[:, :n].sum(1).square().sum(1)
    if entered.beside is None:
        return total
    after, beside = grown[:, n:], entered.beside
    across = beside @ entered.features[items].transpose(1, 2)
    total = total + 2 * ((after @ grown[:, :n].transpose(1, 2)) * (across + ones)).sum((1, 2))
    own = (after @ after.transpose(1, 2)) * (beside @ beside.transpose(1, 2) + ones)
    return total + own.sum((1, 2))


def _weighted(entered: _Entered, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer's summed gradient: weight and bias."""
    grown = _gradient(entered) * factor[:, None, None]
    n, width = entered.items.shape[1], grown.shape[2]
    by_item = torch.zeros(len(entered.features), width)
    by_item.index_add_(0, entered.items.flatten(), grown[:, :n].reshape(-1, width))
    weight = by_item.T @ entered.features
    if entered.beside is not None:
        weight += grown[:, n:].reshape(-1, width).T @ entered.beside.flatten(0, 1)
    return weight, grown.sum((0, 1))


def _gradient(entered: _Entered) -> Tensor:
    if entered.leaf.grad is None:
        raise AssertionError("the loss reads both adapters")
    return entered.leaf.grad
