"""Splits one step away from a split: chunk sizes in, chunk sizes out.

Latency over a split point has many local optima: a chunk that fills whole waves of tiles is good,
and so is the same chunk in another place. Small steps find the bottom of one of them; the larger
ones, and another order of the chunks, lead to the next.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, pairwise

Sizes = tuple[int, ...]
_FINE = (1, -1, 2, -2)
_COARSE = (4, -4, 8, -8, 16, -16, 32, -32)


def fine(sizes: Sizes, grain: int) -> list[Sizes]:
    """One split point, or all of them, moved by a grain or two; the chunks in reverse order."""
    return _possible(chain(_shifted(sizes, grain, _FINE), _reversed(sizes, grain)))


def coarse(sizes: Sizes, grain: int, most: int) -> list[Sizes]:
    """Split points moved farther, chunks halved (`most` chunks at most), neighbours made one."""
    return _possible(chain(_merged_and_halved(sizes, grain, most), _shifted(sizes, grain, _COARSE)))


def _possible(splits: Iterable[Sizes]) -> list[Sizes]:
    return [sizes for sizes in splits if min(sizes) > 0]


def _shifted(sizes: Sizes, grain: int, steps: tuple[int, ...]) -> Iterator[Sizes]:
    last = len(sizes) - 1
    spans = [(index, index + 1) for index in range(last)] + [(0, last)] * (last > 1)
    for step in steps:
        for left, right in spans:
            moved = list(sizes)
            moved[left] += step * grain
            moved[right] -= step * grain
            yield tuple(moved)


def _reversed(sizes: Sizes, grain: int) -> Iterator[Sizes]:
    """The last chunk first; split points on the grain below and above."""
    total = sum(sizes)
    points = list(accumulate(reversed(sizes)))[:-1]
    for up in (grain - 1, 0):
        edges = [0, *((point + up) // grain * grain for point in points), total]
        yield tuple(right - left for left, right in pairwise(edges))


def _merged_and_halved(sizes: Sizes, grain: int, most: int) -> Iterator[Sizes]:
    for index, size in enumerate(sizes):
        before, after = sizes[:index], sizes[index + 1 :]
        half = size // 2 // grain * grain
        if len(sizes) < most and half:
            yield (*before, half, size - half, *after)
        if after and len(sizes) > 2:
            yield (*before, size + after[0], *after[1:])
