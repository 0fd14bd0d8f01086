"""What may be done to a block whose attention all-reduce is dropped (SPD, arXiv 2502.20727).

A treatment is `zero-shot`, dropped as it is, or recovery steps joined in their order by `+`.
"""

from typing import Literal, get_args

from isotune.simulator.errors import InputError

RecoveryStep = Literal["bias", "heads", "neurons", "distil"]
STEPS: tuple[RecoveryStep, ...] = get_args(RecoveryStep)
"""Bias correction, head grouping, neuron grouping, distillation: the order they are done in."""
ZERO_SHOT = "zero-shot"


def steps_of(treatment: str) -> tuple[RecoveryStep, ...]:
    """The recovery steps of a treatment such as `bias+distil`; none of a zero-shot drop.

    Raises:
        InputError: an unknown step, one twice, or another order.
    """
    if treatment == ZERO_SHOT:
        return ()
    names = treatment.split("+")
    steps = tuple(step for step in STEPS if step in names)
    if names != list(steps):
        raise InputError(f"{treatment!r:.60} is not some of {'+'.join(STEPS)} in that order")
    return steps
