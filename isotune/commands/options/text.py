"""Options of the commands that run a checkpoint on text, and how the text is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from isotune.commands.options.declared import DeviceOption
from isotune.commands.options.output import StoppedError
from isotune.commands.options.parsers import choice, option, plain, whole
from isotune.simulator.errors import InputError
from isotune.simulator.io import heard

if TYPE_CHECKING:
    from isotune.validation.spd.model import Corpus, Network
    from isotune.validation.spd.recover import Measurement

_DTYPES = ("float32", "bf16", "fp16")
_PANEL = "Text and how it is run"


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How a text becomes windows of tokens."""

    PANEL: ClassVar = _PANEL

    context: Annotated[int, option("--context", whole(3), "N", "Tokens of a window.")] = 512
    windows: Annotated[
        int, option("--windows", whole(1), "N", "Windows at most, drawn by --seed.")
    ] = 64
    tokenizer: Annotated[
        str | None,
        plain(
            "--tokenizer",
            "FOLDER",
            "Folder of a tokenizer, or `bytes` for a model of bytes.",
            show_default="the model's",
        ),
    ] = None

    def corpus(
        self, model: Path, paths: Sequence[Path], tp: int, dtype: str
    ) -> tuple["Corpus", Any]:
        """The tokens of text files for a model's folder, and torch's number type.

        Everything that is cheap to refuse is refused here, before weights are read.

        Raises:
            InputError: the model, the tp, the tokenizer, a text file, or a context beyond the
                model's positions.
        """
        from isotune.simulator.architecture import check_tp, read_model
        from isotune.validation.real_run import DTYPES
        from isotune.validation.spd.model import read_corpus, read_tokenizer
        from isotune.validation.weights import check_spd_family

        if not model.is_dir():
            raise InputError(f"--model: {model}: not a folder (allowed: one with its weights)")
        shape = read_model(model)
        check_spd_family(shape)
        check_tp(shape, tp)
        if self.context > shape.max_position_embeddings:
            raise InputError(
                f"--context: {self.context} is beyond the model's "
                f"{shape.max_position_embeddings} positions"
            )
        tokenizer = read_tokenizer(model, self.tokenizer, shape.vocab_size)
        return read_corpus(paths, tokenizer), DTYPES[dtype]


@dataclass(frozen=True, kw_only=True)
class TextOptions(WindowOptions):
    """A text, its windows, and how a checkpoint is run on them."""

    PANEL: ClassVar = _PANEL

    text: Annotated[list[Path], plain("--text", "FILE", "Text file; may be given several times.")]
    seed: Annotated[int, option("--seed", whole(0), "N", "Seed of the choice of windows.")] = 0
    eval_batch: Annotated[
        int, option("--eval-batch", whole(1), "N", "Windows that run together.")
    ] = 4
    dtype: Annotated[str, choice("--dtype", _DTYPES, "Number type to compute in")] = "float32"
    device: DeviceOption = None

    def measurement(
        self, network: "Network", corpus: "Corpus", *, epochs: int | None = None
    ) -> "Measurement":
        """What recovery steps are fitted on, and the held-back fifth of the text for judging."""
        from isotune.validation.spd.model import repair_windows
        from isotune.validation.spd.recover import Measurement, Settings, Training

        calibration, held_back = repair_windows(
            corpus, self.context, count=self.windows, seed=self.seed
        )
        settings = Settings(batch=self.eval_batch, seed=self.seed)
        if epochs is not None:
            settings = replace(settings, training=Training(epochs=epochs, seed=self.seed))
        return Measurement(
            network=network, calibration=calibration, held_back=held_back, settings=settings
        )

    def torch_device(self) -> Any:
        """torch's device by its name, or a GPU where there is one.

        Raises:
            InputError: cuda without a GPU.
        """
        import torch

        from isotune.validation.real_run import default_device

        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: this machine has no GPU (allowed: --device cpu)")
        return torch.device(self.device or default_device())


@contextmanager
def resumable() -> Iterator[None]:
    """Say, when work is interrupted, that what is done is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        heard()
        raise StoppedError("interrupted; the same command goes on from here") from error
