"""The space of plans that Optuna searches, and the neighbours of a plan in it."""

from isotune.tuner.space.parameters import label_of, labelled
from isotune.tuner.space.search_space import MAX_CHUNKS, Space, even_plan

__all__ = [
    "MAX_CHUNKS",
    "Space",
    "even_plan",
    "label_of",
    "labelled",
]
