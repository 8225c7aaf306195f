"""Pictures that teach nothing: unreadable, blurred, noisy, badly exposed, or the same as another.

Blur is the part of the Laplacian's variance that another slight blur leaves: the variance itself (Pech-Pacheco et al.
2000) calls every plain product blurred, the ratio (after Crete et al. 2007) doesn't depend on contrast. Noise is
estimated after Immerkær 1996, by the median, so that edges don't count. Likeness is a
64-bit difference hash, confirmed on a small colour picture: colour variants of one cut are no duplicates.
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
    groups : picture → product; the same product may show itself twice.
    """
    faults, noise = PictureFaults(count=len(images.names())), []
    seen = Twins()
    smalls: list[NDArray[np.float32]] = []
    for number, name in enumerate(sorted(images.names())):
        say(number + 1, faults.count)
        try:
            picture = decode_image(images.read(name))
        except InputError:
            faults.unreadable.append(name)
            continue
        shown = picture.convert("L")
        shown.thumbnail((SIDE, SIDE))
        grey = np.asarray(shown, np.float32)
        small = np.asarray(picture.resize((12, 12), Image.Resampling.BOX), np.float32)
        if float(grey.mean()) < 25 or float(grey.mean()) > 250 or float(grey.std()) < 4:
            faults.exposure.append(name)
        elif min(grey.shape) >= 8 and blur_of(shown) > settings.max_blur:
            faults.blurred.append(name)
        if min(grey.shape) >= 8 and noise_of(grey) > settings.max_noise:
            faults.noisy.append(name)
        if seen.meet(groups.get(name, name), difference_hash(picture), small):
            faults.alike.append(name)
        if number % max(1, faults.count // 200) == 0:
            noise.append(_psnr(picture))
            smalls.append(small.ravel())
    faults.psnr_db = float(np.mean(noise)) if noise else float("nan")
    faults.spread = float(np.std(np.stack(smalls), axis=0).mean()) if smalls else float("nan")
    return faults


class Twins:
    """Finds pictures of unlike products that look the same, among those that share a quarter of their hashes."""

    def __init__(self) -> None:
        self._bands: dict[tuple[int, bytes], list[tuple[str, bytes, NDArray[np.float32]]]] = {}

    def meet(self, group: str, hashed: bytes, small: NDArray[np.float32]) -> bool:
        """Whether the picture looks like one met before of another group; it is remembered."""
        alike = False
        for band in range(4):
            near = self._bands.setdefault((band, hashed[2 * band : 2 * band + 2]), [])
            alike = alike or any(
                other != group and _apart(hashed, twin) <= APART and np.abs(small - pixels).mean() <= ALIKE
                for other, twin, pixels in near
            )
            # Plain pictures crowd one band; the latest ones will do, or time would grow with the square.
            if len(near) >= CROWD:
                near.pop(0)
            near.append((group, hashed, small))
        return alike


def _apart(one: bytes, two: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(two, "big")).bit_count()


def difference_hash(picture: Image.Image) -> bytes:
    """64 bits: whether each of 8 x 8 cells is brighter than its right neighbour, with a margin against noise."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.float32)
    return np.packbits(grey[:, :-1] > grey[:, 1:] + 2).tobytes()


def blur_of(grey: Image.Image) -> float:
    """How blurred a grey picture is: near 0.1 where edges are sharp, towards 1 where there are none left to lose."""
    again = np.asarray(grey.filter(ImageFilter.BoxBlur(1)), np.float32)
    return float(_laplacian(again).var() / max(_laplacian(np.asarray(grey, np.float32)).var(), 1e-6))


def noise_of(grey: NDArray[np.float32]) -> float:
    """The deviation of the noise in grey levels: what is left without planes and straight edges."""
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.median(np.abs(both)) / 0.6745 / 6)


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    middle = grey[1:-1, 1:-1]
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle


def _psnr(picture: Image.Image) -> float:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    again = np.asarray(Image.open(buffer), np.float32)
    error = float(np.mean((np.asarray(picture, np.float32) - again) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))
