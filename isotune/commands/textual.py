"""Options of the commands that run a checkpoint on text, and how the text is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.validation.spd.model import Corpus

_DTYPES = ("float32", "bf16", "fp16")

Texts = Annotated[list[Path], typer.Option("--text", help="Text file; may be given several times.")]
Context = Annotated[int, typer.Option("--context", min=3, help="Tokens of a window.")]
Stride = Annotated[
    int | None,
    typer.Option("--stride", min=1, help="Tokens between windows.", show_default="--context"),
]
Windows = Annotated[int, typer.Option("--windows", min=1, help="Windows at most, drawn by --seed.")]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", help="Folder, or `bytes` for a model of bytes.", show_default="the model's"
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Which windows.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Windows run together.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")
]
Dtype = Annotated[str, typer.Option("--dtype", help="Type to compute in: float32, bf16, fp16.")]


@contextmanager
def resumable() -> Iterator[None]:
    """Say, when work is interrupted, that what is done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("isotune: the same command goes on from here", err=True)
        raise


def read_device(wanted: str | None) -> Any:
    """torch's device by its name, or a GPU where there is one.

    Raises:
        InputError: neither cpu nor cuda, or cuda without a GPU.
    """
    import torch

    from isotune.validation.real_run import default_device

    if wanted not in (None, "cpu", "cuda"):
        raise InputError(f"--device: {wanted!r:.40} is not a device (allowed: cpu, cuda)")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no GPU (allowed: --device cpu)")
    return torch.device(wanted or default_device())


def read_text_for(
    model: Path, paths: Sequence[Path], tokenizer: str | None, context: int, tp: int, dtype: str
) -> tuple["Corpus", Any]:
    """The tokens of text files for a model's folder, and torch's number type.

    Everything that is cheap to refuse is refused here, before weights are read.

    Raises:
        InputError: the model, the tp, the tokenizer, a text file, a context beyond the model's
            positions, or a number type.
    """
    from isotune.simulator.architecture import check_tp, read_model
    from isotune.validation.real_run import DTYPES
    from isotune.validation.spd.model import read_corpus, read_tokenizer
    from isotune.validation.weights import check_family

    if dtype not in _DTYPES:
        raise InputError(f"--dtype: {dtype!r:.40} (allowed: {', '.join(_DTYPES)})")
    if not model.is_dir():
        raise InputError(f"--model: {model}: not a folder (allowed: one with its weights)")
    shape = read_model(model)
    check_family(shape)
    check_tp(shape, tp)
    if context > shape.max_position_embeddings:
        raise InputError(
            f"--context: {context} is beyond the model's {shape.max_position_embeddings} positions"
        )
    chosen = read_tokenizer(model, tokenizer, shape.vocab_size)
    return read_corpus(paths, chosen), DTYPES[dtype]
