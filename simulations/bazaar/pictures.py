"""Product pictures, drawn so that their looks show the dimensions of taste.

Outline by category and curve, hue by warmth, value by lightness, pattern by ornateness, scale and contrast, grain by
roughness, a shaded backdrop; position, size, light and rotation of the pattern vary without meaning.

Invariant: of a product only its category and those dimensions are drawn; pixels depend on nothing but the arguments.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from simulations.bazaar.texts import observed
from simulations.bazaar.world import Dim, Floats, Ints, SiteTruth

SIDE = 64
_CHUNK = 64
Pixels = npt.NDArray[np.uint8]

# Per category: width, height, waist (narrowing at the middle), taper (top narrower than bottom), hole, handle.
_OUTLINES: Floats = np.array(
    [
        [0.30, 0.85, 0.1, 0.0, 0, 0],
        [0.65, 0.80, 0.1, 0.2, 0, 0],
        [0.75, 0.60, 0.1, -0.1, 0, 0],
        [0.60, 0.80, 0.3, 0.6, 0, 0],
        [0.85, 0.35, 0.0, 0.5, 0, 0],
        [0.70, 0.50, 0.0, 0.2, 0, 2],
        [0.80, 0.40, 0.0, 0.6, 0, 0],
        [0.50, 0.55, 0.0, -0.1, 0, 1],
        [0.45, 0.85, 0.6, 0.1, 0, 0],
        [0.60, 0.80, 0.8, 0.5, 0, 0],
        [0.70, 0.65, -0.1, 0.0, 0, 0],
        [0.90, 0.70, 0.0, 0.0, 0, 0],
        [0.55, 0.80, 0.4, 0.1, 1, 0],
        [0.32, 0.80, 0.1, 0.4, 0, 0],
        [0.60, 0.75, 0.0, 0.0, 0, 0],
        [0.50, 0.50, 0.0, 0.0, 1, 2],
    ]
)


def draw_pictures(rng: np.random.Generator, truth: SiteTruth, signal: float) -> Pixels:
    """All pictures of one merchant, (items, SIDE, SIDE, 3)."""
    visible = observed(rng, truth.items, signal)
    seeds = rng.standard_normal((len(visible), 8))
    chunks = [
        _draw(rng, visible[i : i + _CHUNK], truth.category[i : i + _CHUNK], seeds[i : i + _CHUNK])
        for i in range(0, len(visible), _CHUNK)
    ]
    return np.concatenate(chunks)


def encode_picture(pixels: Pixels, suffix: str) -> bytes:
    """One picture as PNG or JPEG bytes; `suffix` is ".png" or ".jpg"."""
    buffer = BytesIO()
    picture = Image.fromarray(pixels)
    if suffix == ".png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _draw(rng: np.random.Generator, visible: Floats, category: Ints, seeds: Floats) -> Pixels:
    squashed = _squash(visible)[:, :, None, None]
    axis = np.linspace(-1, 1, SIDE)
    zoom = 1.0 + 0.12 * np.tanh(seeds[:, 0])[:, None, None]
    x = (axis[None, None, :] - 0.12 * np.tanh(seeds[:, 1])[:, None, None]) / zoom
    y = (axis[None, :, None] - 0.12 * np.tanh(seeds[:, 2])[:, None, None]) / zoom
    inside = _outline(x, y, category, squashed[:, Dim.CURVE])
    pattern = _pattern(x, y, squashed, seeds)
    grain = rng.standard_normal((len(visible), SIDE, SIDE), dtype=np.float32)
    grain = grain + np.roll(grain, 1, axis=2)  # short threads rather than single dots
    value = 0.18 + 0.72 * squashed[:, Dim.LIGHTNESS]
    value = value * (
        1.0 + (0.3 + 0.4 * squashed[:, Dim.CONTRAST]) * pattern * (0.5 + 0.5 * squashed[:, Dim.ORNATE])
    )
    value = value * (1.0 + 0.16 * squashed[:, Dim.ROUGH] ** 2 * grain) * (1.0 - 0.12 * x)
    object_colour = _colour(squashed[:, Dim.WARMTH], value, pattern * squashed[:, Dim.ORNATE])
    backdrop = (0.55 + 0.4 * squashed[:, Dim.BACKGROUND]) * (
        1.0 - 0.08 * y * np.tanh(seeds[:, 3])[:, None, None]
    )
    picture = np.where(inside[..., None], object_colour, np.broadcast_to(backdrop, inside.shape)[..., None])
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def _squash(values: Floats) -> Floats:
    """Standard normal to (0, 1), smoothly."""
    return 1.0 / (1.0 + np.exp(-1.7 * values))


def _outline(x: Floats, y: Floats, category: Ints, curve: Floats) -> npt.NDArray[np.bool_]:
    width, height, waist, taper, hole, handle = (column[:, None, None] for column in _OUTLINES[category].T)
    bend = 1.0 - waist * np.exp(-((y / 0.35) ** 2)) * 0.6
    half = width * bend * (1.0 + 0.5 * taper * y)
    power = 1.6 + 7.0 * (1.0 - curve)  # superellipse: 2 is round, 8 nearly a rectangle
    body = np.abs(x / half) ** power + np.abs(y / height) ** power < 1.0
    radius = np.hypot(x, y)
    body &= ~((hole > 0) & (radius < 0.18))
    ring = (
        np.abs(np.hypot(x - np.where(handle == 1, width, 0.0), y + np.where(handle == 2, height, 0.0)) - 0.22)
        < 0.06
    )
    return body | ((handle > 0) & ring)


def _pattern(x: Floats, y: Floats, squashed: Floats, seeds: Floats) -> Floats:
    """Waves in -1..1: plain stripes at the bare end, checks and flowers at the lavish end; wide where scale is bold."""
    frequency = 4.0 + 22.0 * (1.0 - squashed[:, Dim.SCALE])
    angle = seeds[:, 4][:, None, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    stripes = np.sin(frequency * along + seeds[:, 5][:, None, None])
    checks = stripes * np.sin(frequency * across)
    flowers = np.sin(frequency * np.hypot(along, across) + 2.0 * np.sin(5.0 * np.arctan2(across, along)))
    ornate = squashed[:, Dim.ORNATE]
    return (1 - ornate) * stripes + ornate * np.where(seeds[:, 6][:, None, None] > 0, checks, flowers)


def _colour(warmth: Floats, value: Floats, accent: Floats) -> Floats:
    """RGB from icy blue (0) over green and sand to crimson (1), with the accent a little off in hue."""
    stops = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    palette = np.array(
        [[0.45, 0.75, 1.0], [0.25, 0.8, 0.7], [0.8, 0.78, 0.5], [1.0, 0.65, 0.2], [0.95, 0.15, 0.2]]
    )
    position = np.clip(warmth + 0.12 * accent, 0, 1)
    return np.stack([np.interp(position, stops, palette[:, c]) for c in range(3)], axis=-1) * (
        value[..., None] + 0.1
    )
