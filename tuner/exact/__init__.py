"""Exact optima of small spaces: splits, drop sets, and splits by prompt length."""

from isotune.tuner.exact.by_length import Solved, solve, splits_of, times
from isotune.tuner.exact.drop_set import joint_optimum
from isotune.tuner.exact.enumeration import (
    Best,
    batch_of,
    best_split,
    chosen_plan,
    even_sizes,
    most_chunks,
    spaces,
    split_sizes,
)
from isotune.tuner.exact.pareto import undominated

__all__ = [
    "Best",
    "Solved",
    "batch_of",
    "best_split",
    "chosen_plan",
    "even_sizes",
    "joint_optimum",
    "most_chunks",
    "solve",
    "spaces",
    "split_sizes",
    "splits_of",
    "times",
    "undominated",
]
