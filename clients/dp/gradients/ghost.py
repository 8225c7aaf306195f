"""The clipped sum of users' gradients without the gradients of the largest layers: ghost norms on a catalogue.

With frozen encoders, nearly all numbers of a model lie in the first layer of each adapter, which reads an item's cached
features x. A user's gradient there is Σ g xᵀ over the rows of the user's sample, so its squared norm is
Σ (g·g′)(x·x′) (Goodfellow 2015, arXiv:1510.01799; ghost clipping: Li et al. 2021, arXiv:2110.05679), and x·x′ of all
items is known before the first step. The weighted sum needs one more product over the items that occur, not over
users. Items are adapted and fused once for all users (`adapted`, `fused`), and the user tower and the heads take
Opacus's hooks. From the losses back to the adapters few users go at once, so that what they need stays in a core's own
cache. Behind encoders that are trained too each user goes on alone (`scratch`). Invariant: equals
`gradients.clipped_sum` of `hooks`, and of the slow loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from clients.data.dataset import SiteDataset
from clients.dp.gradients.adapted import Grown, Rows, back
from clients.dp.gradients.encoders import Encoders
from clients.dp.gradients.fused import Fused, pull
from clients.dp.gradients.per_user import Gradients, factors
from clients.dp.objective import UserLosses
from clients.dp.sample import UserRows, review_texts
from common.models.model import ItemInputs

_AT_ONCE, _AT_ONCE_ALONE = 128, 16
_MOST_PRODUCTS = 4096  # items, above which products are taken anew for each user


class Catalogue:
    """A site's frozen item features with all their products, used in every step."""

    def __init__(self, site: SiteDataset) -> None:
        self.site = site
        known = site.products if site.n_items <= _MOST_PRODUCTS else (None, None)
        self.text, self.image = _Features(site.items.text, known[0]), _Features(site.items.image, known[1])


@dataclass(frozen=True)
class _Features:
    """Features (m, f) of a catalogue in one modality, and their products (m, m) where they are few."""

    features: Tensor
    products: Tensor | None

    @classmethod
    def of(cls, features: Tensor, few: bool) -> _Features:
        return cls(features, features @ features.T if few else None)

    def alike(self, items: Tensor) -> Tensor:
        """(b, n, n) products of users' items (b, n)."""
        if self.products is None:
            own = self.features[items]
            return own @ own.transpose(1, 2)
        pairs = items[:, :, None] * len(self.products) + items[:, None, :]
        return self.products.flatten().index_select(0, pairs.flatten()).view(pairs.shape)


class _Sums:
    """Weighted sums over users: of small parameters directly, of large layers by the row that they read."""

    def __init__(self) -> None:
        self.total: dict[nn.Parameter, Tensor] = {}
        self._by_row: dict[nn.Linear, Tensor] = {}

    def add(self, small: dict[nn.Parameter, Tensor], factor: Tensor) -> None:
        for parameter, part in small.items():
            found = (factor @ part.flatten(1)).view(parameter.shape)
            self.total[parameter] = self.total[parameter] + found if parameter in self.total else found

    def add_rows(self, layer: nn.Linear, m: int, places: Tensor, grown: Tensor, factor: Tensor) -> None:
        width = grown.shape[-1]
        by_row = self._by_row.setdefault(layer, torch.zeros(m, width))
        by_row.index_add_(0, places.flatten(), (grown * factor[:, None, None]).view(-1, width))

    def close(self, layer: nn.Linear, read: Tensor) -> None:
        """The layer's gradient from the rows (m, f) that it reads."""
        by_row = self._by_row[layer]
        weight: nn.Parameter = layer.weight  # type: ignore[assignment]
        self.total[weight] = by_row.T @ read
        bias: nn.Parameter | None = layer.bias
        if bias is not None and bias not in self.total:
            self.total[bias] = by_row.sum(0)


@dataclass(frozen=True)
class _Read:
    """What b users read: m items with their features, which of them each user met (b, n), reviews (b, r, f)."""

    items: ItemInputs
    text: _Features
    image: _Features
    rows: Tensor
    beside: Tensor
    encoders: Encoders | None = None


def ghost(losses: UserLosses, users: UserRows, catalogue: Catalogue, clip: float) -> Gradients:
    """Sum over users of their gradients, each scaled to a norm of ``clip`` at most, on frozen encoders."""
    site = catalogue.site
    beside = review_texts(site, users.reviews, users.labels)
    read = _Read(site.items, catalogue.text, catalogue.image, users.items, beside)
    return _clipped(losses, users, read, clip, _AT_ONCE)


def ghost_from_scratch(losses: UserLosses, users: UserRows, site: SiteDataset, clip: float) -> Gradients:
    """The same on encoders that are trained too: their outputs are features, behind which each user goes on alone."""
    met, rows = torch.unique(users.items, return_inverse=True)
    items = site.items.take(met)
    reviews = review_texts(site, users.reviews, users.labels)
    encoders = Encoders(losses.model, torch.cat([items.text, reviews.flatten(0, 1)]), items.image)
    text, image = encoders.encoded()
    m, few = len(met), len(met) <= _MOST_PRODUCTS
    beside = text[m:].view(*reviews.shape[:2], -1)
    features = _Features.of(text[:m], few), _Features.of(image, few)
    return _clipped(losses, users, _Read(items, *features, rows, beside, encoders), clip, _AT_ONCE_ALONE)


def _clipped(losses: UserLosses, users: UserRows, read: _Read, clip: float, at_once: int) -> Gradients:
    model, items, rows, beside = losses.model, read.items, read.rows, read.beside
    text = Rows.of(model.text_adapter, torch.cat([read.text.features, beside.flatten(0, 1)]))
    image = Rows.of(model.image_adapter, read.image.features)
    m = len(items)
    own = m + torch.arange(beside.shape[0] * beside.shape[1]).view(beside.shape[:2])
    with torch.no_grad():
        fused = Fused.of(model, items, text.out[:m], image.out)
    vectors, reviews = fused.vectors[rows].requires_grad_(), text.out[own].requires_grad_()
    with _hooked(losses) as small:
        losses.of_vectors(vectors, reviews, items.raw[rows], users).sum().backward()
    grown, at_reviews, sums = _gradient(vectors), _gradient(reviews), _Sums()
    with torch.no_grad():
        for at in range(0, len(rows), at_once):
            few = slice(at, at + at_once)
            pulled = pull(model, items, fused, rows[few], grown[few])
            places = torch.cat([rows[few], own[few]], 1)
            texts = back(text, places, torch.cat([pulled.text, at_reviews[few]], 1))
            images = back(image, rows[few], pulled.image)
            parts = {p: part[few] for p, part in small.items()} | pulled.fusion | texts.small | images.small
            squares = [part.flatten(1).square().sum(1) for part in parts.values()]
            squares += [texts.squares, images.squares]
            squares += [
                _squared_norms(model.text_adapter.first, texts, read.text, rows[few], beside[few]),
                _squared_norms(model.image_adapter.first, images, read.image, rows[few], None),
            ]
            if read.encoders is not None:
                asked = (
                    each.entered @ a.first.weight
                    for each, a in ((texts, text.adapter), (images, image.adapter))
                )
                squares.append(read.encoders.back(places, next(asked), rows[few], next(asked)))
            factor = factors(torch.stack(squares).double().sum(0).sqrt(), clip).float()
            if read.encoders is not None:
                read.encoders.add(factor)
            sums.add(parts, factor)
            at_text = torch.cat([pulled.text, at_reviews[few]], 1)
            _add_adapter(sums, text, places, texts, at_text, factor)
            _add_adapter(sums, image, rows[few], images, pulled.image, factor)
    for each in (text, image):
        if each.known.numel():
            sums.close(each.adapter.leave, each.active)
        sums.close(each.adapter.first, each.features)
    total = sums.total | (read.encoders.total if read.encoders else {})
    return {name: total[p].double() for name, p in losses.named_parameters()}


def _add_adapter(
    sums: _Sums, rows: Rows, places: Tensor, found: Grown, at_out: Tensor, factor: Tensor
) -> None:
    sums.add_rows(rows.adapter.first, len(rows.features), places, found.entered, factor)
    if rows.known.numel():
        sums.add_rows(rows.adapter.leave, len(rows.features), places, at_out, factor)


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


def _squared_norms(
    layer: nn.Linear, found: Grown, features: _Features, items: Tensor, beside: Tensor | None
) -> Tensor:
    """(b,) squared norms of a first layer's gradients, bias included: items' rows, then those of reviews' features."""
    # A bias is a feature that is 1 everywhere.
    ones = 0.0 if layer.bias is None else 1.0
    grown, n = found.entered, items.shape[1]
    own = grown[:, :n]
    total = torch.linalg.vecdot((own @ own.transpose(1, 2)).flatten(1), features.alike(items).flatten(1))
    if beside is not None:
        after = grown[:, n:]
        across = beside @ features.features[items].transpose(1, 2)
        total = total + 2 * ((after @ own.transpose(1, 2)) * across).sum((1, 2))
        total = total + ((after @ after.transpose(1, 2)) * (beside @ beside.transpose(1, 2))).sum((1, 2))
    return total + ones * grown.sum(1).square().sum(1)


def _gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        raise AssertionError("the loss reads every leaf")
    return leaf.grad
