"""A decoded image to the pixels the image tower takes: RGB, resized, centre-cropped, `[3, n, n]` uint8.

The arithmetic is that of CLIP's preprocessing (torchvision's `Resize` and `CenterCrop` on a PIL image),
less the normalisation, which the device does. Unlike there, 16-bit greyscale is scaled to 8 bits.
"""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.models.preprocessing import centre, resized
from longclip_cli.pipeline.orientation import UPRIGHT, turned

STRIP_BYTES = 2**20
SIXTEEN_BIT_FORMATS = {"PNG", "PPM"}  # Pillow gives 16-bit PPM, and PNG before Pillow 11, mode "I"
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0


def to_pixels(
    image: Image.Image,
    image_size: int,
    size: tuple[int, int] | None = None,
    *,
    orientation: int = UPRIGHT,
    fast_resize: bool = False,
) -> Tensor:
    """Return an image made RGB, turned upright, resized and centre-cropped, `[3, image_size, image_size]` uint8.

    `orientation` is that of EXIF. `size` is what to resize the upright image to, if that does not follow from its own
    width and height. With `fast_resize`, PyTorch resizes instead of Pillow. Raises `ValueError` for pixels of 32 bits.
    """
    image = turned(to_rgb(image), orientation)
    width, height = size = size or resized(image.size, image_size)
    left, top = centre(size, image_size)
    if fast_resize and image.size != size:
        # The same filter with weights of 16 bits instead of 22: a pixel in some hundred is one level off.
        pixels = F.interpolate(rgb_values(image)[None], (height, width), mode="bicubic", antialias=True)[0]
        # Unlike `contiguous()` these copies start no threads of their own in each thread that loads images.
        return pixels.narrow_copy(1, top, image_size).narrow_copy(2, left, image_size)
    # In width first, as the original: for tall images Pillow 13 does it the other way round, with other roundings.
    image = image.resize((width, image.height), Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)
    return rgb_values(image.crop((left, top, left + image_size, top + image_size)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB.

    Greyscale of 16 bits is scaled to 8, where Pillow cuts it at 255. Raises `ValueError` for integers and floats
    of 32 bits: nothing says which value is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS):
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
        scale = eight_bits(2**bits - 1, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
        image = image.convert("I").point(scale, "L")
    elif image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise ValueError(f"pixels are 32-bit {kind}, of which none is known to be white; convert it to 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")


@cache
def eight_bits(white: int, is_inverted: bool) -> list[int]:
    """Return the 8-bit value of each 16-bit one: times 255 / `white`, rounded."""
    values = [min(255, round(value * 255 / white)) for value in range(2**16)]
    return [255 - value for value in values] if is_inverted else values


def rgb_values(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, `[3, height, width]` uint8.

    They are copied a strip at a time, since Pillow would need them twice more to give them out at once.
    """
    row_bytes = 3 * image.width
    strip = max(1, STRIP_BYTES // row_bytes)
    values = bytearray(image.height * row_bytes)
    for top in range(0, image.height, strip):
        bottom = min(top + strip, image.height)
        values[top * row_bytes : bottom * row_bytes] = image.crop((0, top, image.width, bottom)).tobytes()
    return torch.frombuffer(values, dtype=torch.uint8).view(image.height, image.width, 3).permute(2, 0, 1)
