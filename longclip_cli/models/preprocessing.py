"""CLIP's preprocessing of images in numbers: the size to resize to, the part to keep, the mean and deviation.

`pipeline/pixels.py` does it. The network normalises, on its device.
"""

from __future__ import annotations

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1], from CLIP's preprocessing
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


def resized(size: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return the width and height, in pixels, with a shorter side of `image_size`.

    The other side is rounded down, as in torchvision's `Resize`.
    """
    width, height = size
    if width <= height:
        return image_size, int(image_size * height / width)
    return int(image_size * width / height), image_size


def centre(size: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return the left and top offset, in pixels, of the centre square of `image_size` pixels a side.

    Halves are rounded to even, as in torchvision's `CenterCrop`.
    """
    width, height = size
    return round((width - image_size) / 2), round((height - image_size) / 2)
