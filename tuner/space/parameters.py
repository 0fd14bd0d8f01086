"""The parameters of a search, in the words of the field."""

from isotune.simulator.schedule import Plan

_LABELS = {
    "layout": "layout of the GPUs",
    "batch": "batch",
    "strategy": "strategy",
    "chunks": "number of chunks",
    "comm_dtype": "transfer type",
    "comm_sms": "SM budget",
    "drops": "drop set",
}
_SPLIT = "share_"


def share_name(index: int) -> str:
    """The parameter that places split point `index`: the share of what is left before it."""
    return f"{_SPLIT}{index}"


def label_of(parameter: str, chunks: int | None = None) -> str:
    """A parameter's name for people; with two `chunks` the only split point needs no number."""
    if parameter.startswith(_SPLIT):
        number = int(parameter.removeprefix(_SPLIT)) + 1
        return "split point" if chunks == 2 else f"split point {number}"
    return _LABELS.get(parameter, parameter)


def labelled(shares: dict[str, float], plan: Plan) -> dict[str, float]:
    """The shares of the parameters that `plan` has, by their names for people.

    A serial plan has no split point and no SM budget, a plan of n chunks n - 1 split points.
    """
    return {
        label_of(name, len(plan.chunks)): share
        for name, share in shares.items()
        if _has(plan, name)
    }


def _has(plan: Plan, parameter: str) -> bool:
    if parameter.startswith(_SPLIT):
        return int(parameter.removeprefix(_SPLIT)) < len(plan.chunks) - 1
    return plan.overlaps or parameter not in ("chunks", "comm_sms")
