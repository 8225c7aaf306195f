"""Pictures within a page, so that it opens offline."""

from __future__ import annotations

import base64
import io

from PIL import Image


def jpeg_uri(data: bytes) -> str:
    """The address of a JPEG file that holds the file itself."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def picture_uri(picture: Image.Image, *, quality: int = 80) -> str:
    """The same of a picture that isn't a file yet."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return jpeg_uri(buffer.getvalue())
