"""Useless pictures: unreadable, blurred, noisy, badly exposed, or the same as another product's.

Blur is the share of the Laplacian's variance that remains after another slight blur: by the variance itself
(Pech-Pacheco et al. 2000) every plain product would count as blurred, while the ratio (after Crete et al. 2007) doesn't
depend on contrast. Noise is estimated after Immerkær 1996, but by the median, so that edges don't count. Likeness is a
64-bit difference hash, confirmed on a small colour picture, so that colour variants aren't duplicates.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from clients.ingest.images import ImageStore, decode_image
from common.errors import InputError
from common.schema import QualitySection

SIDE = 256
ALIKE = 3.0
APART = 6
CROWD = 40


@dataclass
class PictureFaults:
    """Names of suspected pictures, and figures over all readable ones."""

    unreadable: list[str] = field(default_factory=list)
    blurred: list[str] = field(default_factory=list)
    noisy: list[str] = field(default_factory=list)
    exposure: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    psnr_db: float = float("nan")
    spread: float = float("nan")
    count: int = 0


def look(
    images: ImageStore, settings: QualitySection, groups: dict[str, str], say: Callable[[int, int], None]
) -> PictureFaults:
    """Look at every picture once.

    Parameters
    ----------
    groups : picture → product; one product may have two equal pictures.
    """
    faults, noise = PictureFaults(count=len(images.names())), []
    twins = Twins()
    smalls: list[NDArray[np.float32]] = []
    for number, name in enumerate(sorted(images.names())):
        say(number + 1, faults.count)
        try:
            picture = decode_image(images.read(name))
        except InputError:
            faults.unreadable.append(name)
            continue
        grey_picture = picture.convert("L")
        grey_picture.thumbnail((SIDE, SIDE))
        grey = np.asarray(grey_picture, np.float32)
        small = np.asarray(picture.resize((12, 12), Image.Resampling.BOX), np.float32)
        if float(grey.mean()) < 25 or float(grey.mean()) > 250 or float(grey.std()) < 4:
            faults.exposure.append(name)
        elif min(grey.shape) >= 8 and blur_of(grey_picture) > settings.max_blur:
            faults.blurred.append(name)
        if min(grey.shape) >= 8 and noise_of(grey) > settings.max_noise:
            faults.noisy.append(name)
        if twins.meet(groups.get(name, name), difference_hash(picture), small):
            faults.alike.append(name)
        if number % max(1, faults.count // 200) == 0:
            noise.append(_psnr(picture))
            smalls.append(small.ravel())
    faults.psnr_db = float(np.mean(noise)) if noise else float("nan")
    faults.spread = float(np.std(np.stack(smalls), axis=0).mean()) if smalls else float("nan")
    return faults


class Twins:
    """Finds pictures of different products that look the same, among those that share a quarter of their hashes."""

    def __init__(self) -> None:
        self._bands: dict[tuple[int, bytes], list[tuple[str, bytes, NDArray[np.float32]]]] = {}

    def meet(self, group: str, hashed: bytes, small: NDArray[np.float32]) -> bool:
        """Whether the picture looks like an earlier one of another group; it's added to the earlier ones."""
        alike = False
        for band in range(4):
            near = self._bands.setdefault((band, hashed[2 * band : 2 * band + 2]), [])
            alike = alike or any(
                other_group != group
                and _apart(hashed, twin) <= APART
                and np.abs(small - pixels).mean() <= ALIKE
                for other_group, twin, pixels in near
            )
            # Many plain pictures are in one band; only the latest are compared, or time would grow quadratically.
            if len(near) >= CROWD:
                near.pop(0)
            near.append((group, hashed, small))
        return alike


def _apart(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def difference_hash(picture: Image.Image) -> bytes:
    """64 bits: whether each of 8 x 8 cells is brighter than its right neighbour, with a margin against noise."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.float32)
    return np.packbits(grey[:, :-1] > grey[:, 1:] + 2).tobytes()


def blur_of(grey: Image.Image) -> float:
    """How blurred a grey picture is: near 0.1 if edges are sharp, near 1 if there are no edges."""
    again = np.asarray(grey.filter(ImageFilter.BoxBlur(1)), np.float32)
    return float(_laplacian(again).var() / max(_laplacian(np.asarray(grey, np.float32)).var(), 1e-6))


def noise_of(grey: NDArray[np.float32]) -> float:
    """The standard deviation of the noise in grey levels, after removing planes and straight edges."""
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    residue = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.median(np.abs(residue)) / 0.6745 / 6)


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    middle = grey[1:-1, 1:-1]
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle


def _psnr(picture: Image.Image) -> float:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    again = np.asarray(Image.open(buffer), np.float32)
    error = float(np.mean((np.asarray(picture, np.float32) - again) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))
