"""The clipped sum of users' gradients, without computing each user's gradient of the largest layers: ghost norms.

With frozen encoders, nearly all parameters of a model are in the first layer of each adapter, which reads an item's
cached features x. A user's gradient there is Σ g xᵀ over the rows of the user's sample, so its squared norm is
Σ (g·g′)(x·x′) (Goodfellow 2015, arXiv:1510.01799; ghost clipping: Li et al. 2021, arXiv:2110.05679). The products x·x′
of all items are known before the first step. The weighted sum then needs one more product, over the items that occur,
not over users.

Items are adapted and fused once for all users (`adapted`, `fused`); the user tower and the heads use Opacus's hooks.
The backward pass from the losses to the adapters takes a few users at a time, so that their data fit a core's own
cache. For trainable encoders the backward pass goes on through these, user by user (`encoders`).

Invariant: the result equals `per_user.clipped_sum` of `hooks` and of the slow loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clients.data.dataset import SiteDataset
from clients.dp.gradients.adapted import AdapterGradients, Rows, adapter_backward
from clients.dp.gradients.encoders import EncoderGradients
from clients.dp.gradients.fused import Fused, fusion_backward
from clients.dp.gradients.per_user import Gradients, factors, hooked
from clients.dp.objective import UserLosses
from clients.dp.sample import UserRows, review_texts
from common.models.model import ItemInputs

_AT_ONCE, _AT_ONCE_ALONE = 128, 16
_MOST_PRODUCTS = 4096  # with more items than this, products are computed for each user anew


class FrozenFeatures:
    """A site's frozen item features with the products of all pairs, used in every step."""

    def __init__(self, site: SiteDataset) -> None:
        self.site = site
        products = site.products if site.n_items <= _MOST_PRODUCTS else (None, None)
        self.text, self.image = (
            _Features(site.items.text, products[0]),
            _Features(site.items.image, products[1]),
        )


@dataclass(frozen=True)
class _Features:
    """Features (m, f) of a catalogue in one modality, and their products (m, m) unless there are too many items."""

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
    """Weighted sums over users: for small parameters directly, for large layers by the row of features."""

    def __init__(self) -> None:
        self.total: dict[nn.Parameter, Tensor] = {}
        self._by_row: dict[nn.Linear, Tensor] = {}

    def add(self, small: dict[nn.Parameter, Tensor], factor: Tensor) -> None:
        for parameter, part in small.items():
            weighted = (factor @ part.flatten(1)).view(parameter.shape)
            self.total[parameter] = self.total[parameter] + weighted if parameter in self.total else weighted

    def add_rows(self, layer: nn.Linear, m: int, places: Tensor, gradients: Tensor, factor: Tensor) -> None:
        width = gradients.shape[-1]
        by_row = self._by_row.setdefault(layer, torch.zeros(m, width))
        by_row.index_add_(0, places.flatten(), (gradients * factor[:, None, None]).view(-1, width))

    def close(self, layer: nn.Linear, rows: Tensor) -> None:
        """Compute the layer's gradient from the rows (m, f) that are its input."""
        by_row = self._by_row[layer]
        weight: nn.Parameter = layer.weight  # type: ignore[assignment]
        self.total[weight] = by_row.T @ rows
        bias: nn.Parameter | None = layer.bias
        if bias is not None and bias not in self.total:
            self.total[bias] = by_row.sum(0)


@dataclass(frozen=True)
class _Inputs:
    """The data of b users: m items with their features, each user's items (b, n), and reviews' features (b, r, f)."""

    items: ItemInputs
    text: _Features
    image: _Features
    rows: Tensor
    review_features: Tensor
    encoders: EncoderGradients | None = None


def ghost(losses: UserLosses, users: UserRows, catalogue: FrozenFeatures, clip: float) -> Gradients:
    """The sum of users' gradients, each scaled to a norm of at most ``clip``, with frozen encoders."""
    site = catalogue.site
    review_features = review_texts(site, users.reviews, users.labels)
    inputs = _Inputs(site.items, catalogue.text, catalogue.image, users.items, review_features)
    return _clipped(losses, users, inputs, clip, _AT_ONCE)


def ghost_from_scratch(losses: UserLosses, users: UserRows, site: SiteDataset, clip: float) -> Gradients:
    """The same with trainable encoders: their outputs are the features, and their gradients are taken user by user."""
    item_rows, rows = torch.unique(users.items, return_inverse=True)
    items = site.items.take(item_rows)
    reviews = review_texts(site, users.reviews, users.labels)
    encoders = EncoderGradients(losses.model, torch.cat([items.text, reviews.flatten(0, 1)]), items.image)
    text, image = encoders.encoded()
    m, few = len(item_rows), len(item_rows) <= _MOST_PRODUCTS
    review_features = text[m:].view(*reviews.shape[:2], -1)
    features = _Features.of(text[:m], few), _Features.of(image, few)
    return _clipped(
        losses, users, _Inputs(items, *features, rows, review_features, encoders), clip, _AT_ONCE_ALONE
    )


def _clipped(losses: UserLosses, users: UserRows, inputs: _Inputs, clip: float, at_once: int) -> Gradients:
    model, items, rows, review_features = losses.model, inputs.items, inputs.rows, inputs.review_features
    text = Rows.of(model.text_adapter, torch.cat([inputs.text.features, review_features.flatten(0, 1)]))
    image = Rows.of(model.image_adapter, inputs.image.features)
    m = len(items)
    own = m + torch.arange(review_features.shape[0] * review_features.shape[1]).view(
        review_features.shape[:2]
    )
    with torch.no_grad():
        fused = Fused.of(model, items, text.out[:m], image.out)
    vectors, reviews = fused.vectors[rows].requires_grad_(), text.out[own].requires_grad_()
    with _hooked(losses) as small:
        losses.of_vectors(vectors, reviews, items.raw[rows], users).sum().backward()
    at_items, at_reviews, sums = _gradient(vectors), _gradient(reviews), _Sums()
    with torch.no_grad():
        for at in range(0, len(rows), at_once):
            few = slice(at, at + at_once)
            pulled = fusion_backward(model, items, fused, rows[few], at_items[few])
            places = torch.cat([rows[few], own[few]], 1)
            texts = adapter_backward(text, places, torch.cat([pulled.text, at_reviews[few]], 1))
            images = adapter_backward(image, rows[few], pulled.image)
            parts = {p: part[few] for p, part in small.items()} | pulled.fusion | texts.small | images.small
            squares = [part.flatten(1).square().sum(1) for part in parts.values()]
            squares += [texts.squares, images.squares]
            squares += [
                _squared_norms(model.text_adapter.first, texts, inputs.text, rows[few], review_features[few]),
                _squared_norms(model.image_adapter.first, images, inputs.image, rows[few], None),
            ]
            if inputs.encoders is not None:
                at_features = (
                    adapted.entered @ a.first.weight
                    for adapted, a in ((texts, text.adapter), (images, image.adapter))
                )
                squares.append(inputs.encoders.back(places, next(at_features), rows[few], next(at_features)))
            factor = factors(torch.stack(squares).double().sum(0).sqrt(), clip).float()
            if inputs.encoders is not None:
                inputs.encoders.add(factor)
            sums.add(parts, factor)
            at_text = torch.cat([pulled.text, at_reviews[few]], 1)
            _add_adapter(sums, text, places, texts, at_text, factor)
            _add_adapter(sums, image, rows[few], images, pulled.image, factor)
    for adapted in (text, image):
        if adapted.cached.numel():
            sums.close(adapted.adapter.leave, adapted.active)
        sums.close(adapted.adapter.first, adapted.features)
    total = sums.total | (inputs.encoders.total if inputs.encoders else {})
    return {name: total[p].double() for name, p in losses.named_parameters()}


def _add_adapter(
    sums: _Sums, rows: Rows, places: Tensor, gradients: AdapterGradients, at_out: Tensor, factor: Tensor
) -> None:
    sums.add_rows(rows.adapter.first, len(rows.features), places, gradients.entered, factor)
    if rows.cached.numel():
        sums.add_rows(rows.adapter.leave, len(rows.features), places, at_out, factor)


@contextmanager
def _hooked(losses: UserLosses) -> Iterator[dict[nn.Parameter, Tensor]]:
    """Opacus's hooks on all layers; the per-user gradients are in the result when the context ends."""
    gradients: dict[nn.Parameter, Tensor] = {}
    with hooked(losses):
        yield gradients
        for parameter in losses.parameters():
            sample = getattr(parameter, "grad_sample", None)
            if sample is not None:
                gradients[parameter] = sample.detach()


def _squared_norms(
    layer: nn.Linear,
    gradients: AdapterGradients,
    features: _Features,
    items: Tensor,
    review_features: Tensor | None,
) -> Tensor:
    """(b,) squared norms of a first layer's gradients with its bias, over rows of items and then of reviews."""
    # A bias acts like a feature that is 1 everywhere.
    ones = 0.0 if layer.bias is None else 1.0
    entered, n = gradients.entered, items.shape[1]
    own = entered[:, :n]
    total = torch.linalg.vecdot((own @ own.transpose(1, 2)).flatten(1), features.alike(items).flatten(1))
    if review_features is not None:
        after = entered[:, n:]
        across = review_features @ features.features[items].transpose(1, 2)
        total = total + 2 * ((after @ own.transpose(1, 2)) * across).sum((1, 2))
        total = total + (
            (after @ after.transpose(1, 2)) * (review_features @ review_features.transpose(1, 2))
        ).sum((1, 2))
    return total + ones * entered.sum(1).square().sum(1)


def _gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        raise AssertionError("the loss reads every leaf")
    return leaf.grad
