"""What `isotune recover` leaves in `spd/` inside the model's folder. Imports no torch.

`recovery.json` tells what was done; `corrections.safetensors` has what transformers does not
know of: bias corrections `blocks.N.missing` [tp, hidden] and the new orders (old numbers place
by place) `blocks.N.query_order`, `.key_order` and `.neuron_order`.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from isotune.simulator.errors import InputError
from isotune.simulator.io import Schema, read_json, validate
from isotune.simulator.schedule import RecoveryStep

FOLDER = "spd"
RECORD = "recovery.json"
TENSORS = "corrections.safetensors"


class StepRecord(Schema):
    """A recovery step's loss on held-back text before and after it, in nats per token.

    It was kept where it lowered the loss by more than `noise`, the standard error of the change.
    """

    step: RecoveryStep
    before: float
    after: float
    noise: float = 0.0
    kept: bool
    note: str = ""


class BlockRecord(Schema):
    """What became of a dropped block. A `distilled` one computes something else than before,
    also with its sync; every other change leaves it as it was while its sync is not dropped."""

    block: int
    steps: tuple[StepRecord, ...] = ()
    heads_moved: bool = False
    neurons_moved: bool = False
    corrected: bool = False
    distilled: bool = False


class Perplexities(Schema):
    """On one text: the original with every sync, with the drops and no recovery, recovered, and
    the recovered weights with every sync (which is what transformers runs)."""

    tokens: int
    whole: float
    zero_shot: float
    recovered: float
    synced: float


class Record(Schema):
    """The content of `recovery.json`.

    `held_back` is the text that chose the steps; `evaluation` one that did not, where given.
    """

    version: Literal[1] = 1
    model: str
    tp: int
    dropped: tuple[int, ...]
    blocks: tuple[BlockRecord, ...]
    held_back: Perplexities
    evaluation: Perplexities | None = None
    text: str = Field(description="SHA-256 of the texts and the tokenizer")
    context: int
    seed: int


def read_record(folder: Path) -> Record | None:
    """The record of a recovered folder; None where it is none.

    Raises:
        InputError: the record is unreadable or malformed.
    """
    path = folder / FOLDER / RECORD
    return validate(Record, read_json(path), path) if path.is_file() else None


def check_ranks(folder: Path, record: Record, tp: int) -> None:
    """Refuse to run a recovered folder on another number of ranks than it was recovered for.

    Raises:
        InputError: which it was recovered for.
    """
    if record.tp != tp:
        raise InputError(
            f"{folder / FOLDER / RECORD}: recovered for tp {record.tp}, not for tp {tp} (allowed: "
            f"tp {record.tp}, or the original folder)"
        )
