"""The gradients of trainable encoders: all items are encoded once, then each user has a backward pass of its own.

A user's loss gives gradients at an encoder's outputs for the user's own items only. So all items of a batch are encoded
once, and one ordinary backward pass over a user's rows then gives that user's exact gradient, and no other's. An LSTM
is causal and padding is masked, so positions after the last word of all rows are left out. The gradient of the word
table is kept for the words that occur.

Invariant: the result equals autograd through the encoders; a test compares it with the slow loop on every
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.encoders import LstmTextEncoder
from common.models.model import HansaModel

_AT_ONCE = 256


@dataclass(frozen=True)
class _UserGradients:
    """One user's gradients of the encoders; ``rows`` are those of the word table, for ``words`` only."""

    dense: tuple[Tensor, ...]
    words: Tensor
    rows: Tensor

    def square(self) -> Tensor:
        """Squared norm."""
        parts = [part.square().sum() for part in (*self.dense, self.rows)]
        return torch.stack(parts).sum()


class EncoderGradients:
    """The encoders of a model and their gradients, for tokens (m, l) of items and then reviews, and pixels of items.

    Invariant: between `back` and `add` it holds the gradients of a few users only.
    """

    def __init__(self, model: HansaModel, tokens: Tensor, pixels: Tensor) -> None:
        if not isinstance(model.text_encoder, LstmTextEncoder):
            raise TypeError("frozen encoders have no gradients")
        self._text, self._image = model.text_encoder, model.image_encoder
        self._tokens, self._pixels = tokens, pixels
        self._dense = [*self._text.lstm.parameters(), *self._image.parameters()]
        self._words: nn.Parameter = self._text.embed.weight  # type: ignore[assignment]
        trained = [self._words, *self._dense]
        self.total = {parameter: torch.zeros(parameter.shape) for parameter in trained}
        self._per_user: list[_UserGradients] = []

    def encoded(self) -> tuple[Tensor, Tensor]:
        """The encoders' outputs, for all tokens and for all pixels."""
        with torch.no_grad():
            texts = [self._read(*self._embedded(part)) for part in self._tokens.split(_AT_ONCE)]
            images = [self._image(part) for part in self._pixels.split(_AT_ONCE)]
        return torch.cat(texts), torch.cat(images)

    def back(self, at_text: Tensor, text: Tensor, at_image: Tensor, image: Tensor) -> Tensor:
        """(b,) squared norms of users' gradients, from those at the encoders' outputs (b, n, d) of rows (b, n)."""
        self._per_user = [
            self._user_gradients(*parts) for parts in zip(at_text, text, at_image, image, strict=True)
        ]
        return torch.stack([one_user.square() for one_user in self._per_user])

    def add(self, factor: Tensor) -> None:
        """Add the users' gradients from `back` to the total, each times its factor."""
        table = self.total[self._words]
        for weight, one_user in zip(factor.tolist(), self._per_user, strict=True):
            table.index_add_(0, one_user.words, one_user.rows, alpha=weight)
            for parameter, part in zip(self._dense, one_user.dense, strict=True):
                self.total[parameter].add_(part, alpha=weight)
        self._per_user = []

    def _user_gradients(
        self, at_text: Tensor, text: Tensor, at_image: Tensor, image: Tensor
    ) -> _UserGradients:
        # Rows without a gradient are left out: padding, and modalities that an item lacks.
        at_text, text = _rows_with_gradient(at_text, text)
        at_image, image = _rows_with_gradient(at_image, image)
        tokens = self._tokens[at_text]
        words, places = torch.unique(tokens, return_inverse=True)
        with torch.enable_grad():
            words_in, mask = self._embedded(tokens)
            words_in = words_in.detach().requires_grad_()
            recurrent = torch.autograd.grad(
                self._read(words_in, mask), [words_in, *self._text.lstm.parameters()], text
            )
            picture = torch.autograd.grad(
                self._image(self._pixels[at_image]), list(self._image.parameters()), image
            )
        at_words = (recurrent[0] * mask).flatten(0, 1)
        rows = at_words.new_zeros(len(words), at_words.shape[1])
        rows.index_add_(0, places[:, : mask.shape[1]].flatten(), at_words)
        return _UserGradients((*recurrent[1:], *picture), words, rows)

    def _embedded(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Word vectors up to the last word of all rows, and a mask of the places with words."""
        last = int((tokens > 0).any(0).nonzero().max()) + 1 if bool((tokens > 0).any()) else 1
        tokens = tokens[:, :last]
        mask = (tokens > 0).to(torch.float32)[..., None]
        return self._text.embed(tokens) * mask, mask

    def _read(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """The encoder's layers after the word table, with PyTorch's own LSTM instead of Opacus's loop over words."""
        state = embedded.new_zeros(1, len(embedded), self._text.lstm.hidden_size)
        named = dict(self._text.lstm.named_parameters())
        weights = [named[f"{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        states, _, _ = torch.lstm(embedded, (state, state), weights, True, 1, 0.0, False, False, True)
        mean: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return mean


def _rows_with_gradient(places: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with a gradient, and at least one row, so that every parameter has a gradient."""
    wanted = gradients.abs().amax(1) > 0
    wanted[0] = True
    return places[wanted], gradients[wanted]
