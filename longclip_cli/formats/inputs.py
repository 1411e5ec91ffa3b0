"""The fields of a row to what is scored: its images and its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from longclip_cli.errors import Reason, RowError, UsageError
from longclip_cli.formats.selectors import Selector, parse_selector
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.rows import ImageReference, RowErrors, RowInputs, image_reference, text_of

Value = TypeVar("Value")
MOST_ELEMENTS = 4096  # of a list: all of a row are held until it is written


class InputFields:
    """Finds images and texts in the fields of rows, by the keys that the options name.

    Raises `UsageError` for a key that is no valid path, or that leads into the field that is written.
    """

    def __init__(self, options: ScoringOptions) -> None:
        self._image = parse("--image-key", options.image_key)
        self._texts = tuple(parse("--text-key", key) for key in options.text_key)
        self._strip = options.strip
        self._reduce = options.reduce
        for selector in (self._image, *self._texts):
            if selector.name in (options.output_key, error_key(options.output_key)):
                raise UsageError(f"--output-key {options.output_key} would overwrite what {selector.key} reads")

    def find(self, fields: Mapping[str, object]) -> RowInputs | RowError:
        """Return the inputs of the row with these fields, or the error that says why it has none."""
        try:
            with RowErrors():
                return self._find(fields)
        except RowError as error:
            return error.with_traceback(None)

    def _find(self, fields: Mapping[str, object]) -> RowInputs:
        images = self._images(fields)
        texts: list[str | RowError] = []
        is_list = len(images) > 1 or len(self._texts) > 1
        for selector in self._texts:
            value = selector.find(fields, Reason.NO_TEXT_FIELD)
            if isinstance(value, list):
                texts += elements(value, selector, self._text, Reason.NO_TEXTS)
                is_list = True
            else:
                texts.append(self._text(value, selector.key))
        if max(len(images), len(texts)) > MOST_ELEMENTS:
            raise RowError(Reason.TOO_MANY_ELEMENTS, f"{max(len(images), len(texts))}, at most {MOST_ELEMENTS}")
        if len(images) > 1 and len(texts) > 1:
            raise RowError(Reason.SEVERAL_OF_BOTH, f"{len(images)} images, {len(texts)} texts")
        return RowInputs(images, tuple(texts), self._reduce if is_list else None)

    def _images(self, fields: Mapping[str, object]) -> tuple[ImageReference | RowError, ...]:
        value = self._image.find(fields, Reason.NO_IMAGE_FIELD)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, list):
            return tuple(elements(value, self._image, image_reference, Reason.NO_IMAGES))
        return (image_reference(value, self._image.key),)

    def _text(self, value: object, name: str) -> str:
        text = text_of(value, name)
        for part in self._strip:
            text = text.replace(part, "")
        return text_of(text, name) if self._strip else text


def parse(option: str, key: str) -> Selector:
    """Return what a key selects. Raises `UsageError`, which names the option."""
    try:
        return parse_selector(key)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None


def elements(
    values: Sequence[object], selector: Selector, read: Callable[[object, str], Value], empty: Reason
) -> Iterable[Value | RowError]:
    """Return what `read` makes of each value of a list, or its error. Raises `RowError` for an empty list."""
    if not values:
        raise RowError(empty, f"'{selector.key}'")
    found: list[Value | RowError] = []
    for index, value in enumerate(values):
        try:
            found.append(read(value, f"{selector.key}[{index}]"))
        except RowError as error:
            found.append(error.with_traceback(None))
    return found
