"""Encoders that are trained themselves: encoded once for all users, gone back through user by user.

What a user's loss asks of an encoder is a gradient at its outputs, for the user's own items alone; so all items of a
batch are encoded once, and each user then takes one ordinary backward pass through its own rows, whose result is the
user's own gradient, exact and alone in memory. An LSTM is causal and padding is masked, so what follows the last word
of all rows is left out; the gradient of the word table is kept by the words that occur. Invariant: equals autograd
through the encoders; a test holds it against the slow loop on every configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.encoders import LstmTextEncoder
from common.models.model import HansaModel

_AT_ONCE = 256


@dataclass(frozen=True)
class _OfUser:
    """One user's gradients of the encoders; of the word table's rows those of ``words``."""

    dense: tuple[Tensor, ...]
    words: Tensor
    rows: Tensor

    def square(self) -> Tensor:
        """Squared norm."""
        parts = [part.square().sum() for part in (*self.dense, self.rows)]
        return torch.stack(parts).sum()


class Encoders:
    """The encoders of a model on some rows: tokens (m, l) of items and then reviews, and pixels of items.

    Invariant: between `back` and `add` it holds the gradients of few users.
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
        self._found: list[_OfUser] = []

    def encoded(self) -> tuple[Tensor, Tensor]:
        """What the adapters read: of all tokens, and of all pixels."""
        with torch.no_grad():
            texts = [self._read(*self._embedded(part)) for part in self._tokens.split(_AT_ONCE)]
            images = [self._image(part) for part in self._pixels.split(_AT_ONCE)]
        return torch.cat(texts), torch.cat(images)

    def back(self, at_text: Tensor, text: Tensor, at_image: Tensor, image: Tensor) -> Tensor:
        """(b,) squared norms of users' gradients, from those at the encoders' outputs (b, n, d) of rows (b, n)."""
        self._found = [self._of_user(*parts) for parts in zip(at_text, text, at_image, image, strict=True)]
        return torch.stack([found.square() for found in self._found])

    def add(self, factor: Tensor) -> None:
        """Add up what `back` found, weighted."""
        table = self.total[self._words]
        for weight, found in zip(factor.tolist(), self._found, strict=True):
            table.index_add_(0, found.words, found.rows, alpha=weight)
            for parameter, part in zip(self._dense, found.dense, strict=True):
                self.total[parameter].add_(part, alpha=weight)
        self._found = []

    def _of_user(self, at_text: Tensor, text: Tensor, at_image: Tensor, image: Tensor) -> _OfUser:
        # Rows without a gradient teach nothing: places that are filled up, and what an item lacks.
        at_text, text = _asked(at_text, text)
        at_image, image = _asked(at_image, image)
        tokens = self._tokens[at_text]
        words, places = torch.unique(tokens, return_inverse=True)
        with torch.enable_grad():
            read, mask = self._embedded(tokens)
            read = read.detach().requires_grad_()
            recurrent = torch.autograd.grad(
                self._read(read, mask), [read, *self._text.lstm.parameters()], text
            )
            picture = torch.autograd.grad(
                self._image(self._pixels[at_image]), list(self._image.parameters()), image
            )
        at_words = (recurrent[0] * mask).flatten(0, 1)
        rows = at_words.new_zeros(len(words), at_words.shape[1])
        rows.index_add_(0, places[:, : mask.shape[1]].flatten(), at_words)
        return _OfUser((*recurrent[1:], *picture), words, rows)

    def _embedded(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Word vectors up to the last word of all rows, and which of them are words."""
        last = int((tokens > 0).any(0).nonzero().max()) + 1 if bool((tokens > 0).any()) else 1
        tokens = tokens[:, :last]
        mask = (tokens > 0).to(torch.float32)[..., None]
        return self._text.embed(tokens) * mask, mask

    def _read(self, read: Tensor, mask: Tensor) -> Tensor:
        """The encoder after its word table, by the library's own LSTM in place of Opacus's loop over words."""
        state = read.new_zeros(1, len(read), self._text.lstm.hidden_size)
        named = dict(self._text.lstm.named_parameters())
        weights = [named[f"{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        states, _, _ = torch.lstm(read, (state, state), weights, True, 1, 0.0, False, False, True)
        mean: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return mean


def _asked(places: Tensor, grown: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with a gradient; one row at least, so that every parameter has one."""
    asked = grown.abs().amax(1) > 0
    asked[0] = True
    return places[asked], grown[asked]
