"""Ladder residuals (arXiv 2501.06589): a module's all-reduce runs while the next one computes."""

from isotune.simulator.schedule.strategies.contract import Unsplit


class Ladder(Unsplit):
    """A module reads the residual stream as it was before the module before it."""

    name = "ladder"
    label = "ladder residuals"
    lag = 1
    needs_retraining = True
    caveat = "the model must be trained with ladder residuals"
