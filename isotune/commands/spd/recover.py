"""`isotune recover`: win back what dropped attention all-reduces cost a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from isotune.commands.options import (
    BlockSteps,
    DropOption,
    EpochsOption,
    FolderOfPlan,
    OutputOptions,
    TextOptions,
    application,
    command,
    option,
    output_option,
    plain,
    progress,
    proper_fraction,
    real,
    resumable,
    whole,
)
from isotune.commands.options import block_steps as read_block_steps
from isotune.commands.options import steps as read_steps
from isotune.simulator.errors import InputError
from isotune.simulator.files import locate, read_plan
from isotune.simulator.schedule import STEPS, steps_of
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.spd.model import Corpus, Windows
    from isotune.validation.spd.recover import Settings

_OF_CLASS: dict[str, tuple[str, ...]] = {"ISB": (), "SB": ("distil",), "ESB": ("heads", "distil")}
"""The paper's rule: in-sensitive blocks as they are, sensitive ones distilled, extremely
sensitive ones distilled after head grouping."""


class Target(NamedTuple):
    """The checkpoint to recover: its folder, its ranks, its dropped blocks, a plan's treatments."""

    folder: Path
    tp: int
    dropped: tuple[int, ...]
    treatments: Mapping[int, str]


class Texts(NamedTuple):
    """Windows that fit recovery steps, that judge each of them, and that judge the result."""

    corpus: "Corpus"
    dtype: Any
    calibration: "Windows"
    held_back: "Windows"
    evaluation: "Windows | None"


@dataclass(frozen=True, kw_only=True)
class _TargetOptions:
    PANEL: ClassVar = "What is recovered (a plan, or model, tp and blocks)"

    plan: Annotated[
        Path | None, plain("--plan", "FILE", "Plan file: its tp and its dropped all-reduces.")
    ] = None
    model: FolderOfPlan = None
    drop: DropOption = None
    tp: Annotated[
        int | None, option("--tp", whole(2), "N", "Tensor-parallel size, with --drop.")
    ] = None

    def target(self) -> Target:
        """The checkpoint and its dropped blocks.

        Raises:
            InputError: options that exclude each other or are missing, no folder, or no such block.
        """
        if self.plan is not None:
            if self.drop is not None or self.tp is not None:
                raise InputError("--plan has the tp and the drop set (not with --drop or --tp)")
            file = read_plan(self.plan)
            folder = self.model or Path(locate(file.model.name, self.plan.parent))
            if file.workload.tp < 2:
                raise InputError(
                    f"{self.plan}: workload: tp {file.workload.tp} has no syncs to drop"
                )
            target = Target(folder, file.workload.tp, file.plan.dropped, file.treatments)
        elif self.model is None or self.drop is None or self.tp is None:
            raise InputError("give --plan, or --model with --drop and --tp")
        else:
            target = Target(self.model, self.tp, self.drop, {})
        _check(target)
        return target


def _check(target: Target) -> None:
    from isotune.simulator.architecture import read_model

    folder, dropped = target.folder, target.dropped
    if not folder.is_dir():
        raise InputError(f"--model: {folder}: not a folder (allowed: one with its weights)")
    count = read_model(folder).num_hidden_layers
    if not dropped:
        raise InputError("no attention all-reduce is dropped: there is nothing to recover")
    if dropped[-1] >= count:
        raise InputError(f"drop: {folder.name} has blocks 0 to {count - 1}, not {dropped[-1]}")


@dataclass(frozen=True, kw_only=True)
class _StepOptions:
    PANEL: ClassVar = "Recovery steps"

    steps: Annotated[
        tuple[str, ...] | None,
        option(
            "--steps",
            read_steps,
            "NAMES",
            f"Some of {','.join(STEPS)}; none keeps the blocks as they are.",
            show_default="the plan's treatments, else all",
        ),
    ] = None
    block_steps: Annotated[
        list[BlockSteps] | None,
        option(
            "--block-steps",
            read_block_steps,
            "BLOCKS=NAMES",
            "Other steps for some blocks, such as 0,3=heads,distil; may be given several times.",
        ),
    ] = None
    sensitivity: Annotated[
        Path | None,
        plain(
            "--sensitivity",
            "FILE",
            "Steps by the class in this file: none for ISB, distil for SB, heads and distil "
            "for ESB.",
        ),
    ] = None
    rate: Annotated[float, option("--rate", real(0.0), "X", "Learning rate of distillation.")] = (
        1e-3
    )
    epochs: EpochsOption = 10

    def by_block(self, target: Target) -> dict[int, tuple[str, ...]]:
        """The steps of each dropped block.

        Raises:
            InputError: blocks that are not dropped, or classes of another model or tp.
        """
        if self.sensitivity is not None:
            steps = _by_class(self.sensitivity, target)
        else:
            steps = dict.fromkeys(target.dropped, STEPS if self.steps is None else self.steps)
            if self.steps is None:
                planned = set(target.dropped) & set(target.treatments)
                steps |= {block: _planned(target.treatments[block]) for block in planned}
        for others in self.block_steps or []:
            for block in others.blocks:
                if block not in steps:
                    raise InputError(f"--block-steps: block {block} is not dropped")
                steps[block] = others.steps
        return steps


def _planned(treatment: str) -> tuple[str, ...]:
    try:
        return steps_of(treatment)
    except InputError as error:
        raise InputError(f"plan: treatments: {error}") from error


def _by_class(path: Path, target: Target) -> dict[int, tuple[str, ...]]:
    from isotune.simulator.architecture import read_model
    from isotune.tuner.accuracy import read_sensitivity

    table = read_sensitivity(path, read_model(target.folder), (target.tp,))
    if not table.classes:
        raise InputError(f"{path}: classes: missing (isotune sensitivity writes them)")
    return {block: _OF_CLASS[table.classes[block]] for block in target.dropped}


@dataclass(frozen=True, kw_only=True)
class Recover(_TargetOptions, _StepOptions, TextOptions, OutputOptions):
    """Recover the accuracy of blocks whose all-reduces are dropped; writes a model folder."""

    output: Annotated[Path, output_option("Folder to write.", "FOLDER")]
    eval_text: Annotated[
        list[Path] | None, plain("--eval-text", "FILE", "Evaluation text, not used for fitting.")
    ] = None
    held_back_share: Annotated[
        float,
        option(
            "--held-back-share",
            proper_fraction,
            "SHARE",
            "Share of the text that judges each step.",
            show_default="20%",
        ),
    ] = 0.2

    def run(self) -> None:
        """Recover the blocks, write the folder and print its perplexities."""
        require_validate_extra()
        target = self.target()
        steps = self.by_block(target)
        from isotune.results import Recovery
        from isotune.validation.spd.checkpoint import FOLDER, RECORD, PartialRun, read_record
        from isotune.validation.spd.model import digest_of, load_network
        from isotune.validation.spd.recover import (
            check_target,
            record_of,
            recover,
            save_block,
            saved_blocks,
            write_recovered,
        )

        if read_record(target.folder):
            raise InputError(
                f"{target.folder / FOLDER / RECORD}: recovered already (use the original folder)"
            )
        device = self.torch_device()
        check_target(target.folder, self.output)
        texts, settings = self._texts(target), self._settings()
        digest = digest_of(
            target.folder,
            texts.corpus.digest,
            target.tp,
            steps,
            settings,
            self.context,
            self.windows,
            self.held_back_share,
            self.dtype,
            device,
        )
        network = load_network(target.folder, target.tp, dtype=texts.dtype, device=device)
        partial = PartialRun.beside(self.output, digest)
        with resumable(), progress("recovering", not self.as_json) as report:
            recovery = recover(
                network,
                texts.calibration,
                texts.held_back,
                target.dropped,
                steps,
                settings=settings,
                done=saved_blocks(partial, network),
                on_block=lambda block: save_block(partial, block),
                on_progress=report,
            )
        record = record_of(
            network,
            recovery,
            texts.evaluation,
            batch=self.eval_batch,
            text=texts.corpus.digest,
            context=self.context,
            seed=self.seed,
        )
        write_recovered(target.folder, self.output, network, recovery.blocks, record)
        partial.remove()
        self.emit(Recovery.of(record, str(self.output)), f"wrote {self.output}")

    def _texts(self, target: Target) -> Texts:
        from isotune.validation.spd.model import repair_windows

        corpus, dtype = self.corpus(target.folder, self.text, target.tp, self.dtype)
        calibration, held_back = repair_windows(
            corpus, self.context, count=self.windows, seed=self.seed, share=self.held_back_share
        )
        evaluation = None
        if self.eval_text:
            other, _ = self.corpus(target.folder, self.eval_text, target.tp, self.dtype)
            evaluation = other.windows(
                self.context, count=self.windows, seed=self.seed, what="evaluation text"
            )
        return Texts(corpus, dtype, calibration, held_back, evaluation)

    def _settings(self) -> "Settings":
        from isotune.validation.spd.recover import Settings, Training

        training = Training(rate=self.rate, epochs=self.epochs, seed=self.seed)
        return Settings(batch=self.eval_batch, seed=self.seed, training=training)


app = application(command(Recover), renamed={"batch": "eval-batch", "held-back": "held-back-share"})
