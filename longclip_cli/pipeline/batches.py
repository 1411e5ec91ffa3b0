"""Which images and texts go through the network together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from longclip_cli.pipeline.cache import EncoderInput

Item = TypeVar("Item")
WaitingText: TypeAlias = tuple[EncoderInput[list[int]], list[int]]  # a text with its token ids
TextGroup: TypeAlias = list[WaitingText]  # the longest comes last


@dataclass(frozen=True)
class BatchLimits:
    """How much work to give a device at a time, counted in positions (tokens or patches).

    `image_positions` and `text_positions` are in one forward pass, at most. Within it, texts padded to one length are
    a group; a group costs as much time as `worth_a_group` positions, and no more padding is spent on saving one.
    """

    image_positions: int
    text_positions: int
    worth_a_group: int


# Matrix products with few rows are slow, most of all in bfloat16: a photo of 577 positions takes 6 % longer alone than
# beside another, more of them gain nothing. A group of texts costs one more attention in each block.
CPU_LIMITS = BatchLimits(image_positions=1400, text_positions=2048, worth_a_group=2)
GPU_LIMITS = BatchLimits(image_positions=64 * 577, text_positions=64 * 248, worth_a_group=2048)


def text_batches(texts: Iterable[WaitingText], positions: int, worth_a_group: int) -> Iterator[list[TextGroup]]:
    """Groups of texts, shortest first, in batches of at most `positions` tokens, padding included.

    A text of more than `positions` tokens is a batch of its own.
    """
    batch: list[TextGroup] = []
    room = positions
    for group in length_groups(texts, positions, worth_a_group):
        padded = len(group) * len(group[-1][1])
        if batch and padded > room:
            yield batch
            batch, room = [], positions
        batch.append(group)
        room -= padded
    if batch:
        yield batch


def length_groups(texts: Iterable[WaitingText], positions: int, worth_a_group: int) -> Iterator[TextGroup]:
    """Yield texts by length, in groups that padded to their longest hold at most `positions` tokens.

    A group holds at most `worth_a_group` tokens of padding. A text of more than `positions` tokens is one of its own.
    """
    group: TextGroup = []
    tokens = 0
    for text, token_ids in sorted(texts, key=lambda waiting: len(waiting[1])):
        length = len(token_ids)
        padded = length * (len(group) + 1)
        if group and (padded > positions or padded - tokens - length > worth_a_group):
            yield group
            group, tokens = [], 0
        group.append((text, token_ids))
        tokens += length
    if group:
        yield group


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Return the items, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
