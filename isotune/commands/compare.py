"""`isotune compare`: machines, engines, layouts and techniques side by side."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

import isotune
from isotune.commands.options import (
    DEFAULT_MODEL,
    QUANT_ALIASES,
    Choices,
    OutputOptions,
    SeveralContextGroups,
    SeveralDataGroups,
    SeveralExpertRanks,
    application,
    choice,
    choices,
    command,
    counts,
    hardware_option,
    model_option,
    names,
    option,
    progress,
    reader,
    tokens,
    whole,
)
from isotune.simulator.engines import DEFAULT, ENGINES
from isotune.simulator.errors import InputError
from isotune.simulator.number_types import QUANTS
from isotune.simulator.predict import Scenario
from isotune.simulator.schedule import Phase


@dataclass(frozen=True, kw_only=True)
class _Cases:
    PANEL: ClassVar = "Cases (the first of each is what the others stand beside)"

    hw: Annotated[
        tuple[str, ...] | None,
        hardware_option("Machines: bundled names or paths", metavar="NAMES", parser=reader(names)),
    ] = None
    engine: Annotated[
        tuple[str, ...] | None,
        choices("--engine", Choices(ENGINES, "engine"), "Serving engines", show_default=DEFAULT),
    ] = None
    tp: Annotated[
        tuple[int, ...] | None,
        option(
            "--tp",
            counts,
            "N[,N]",
            "Tensor-parallel sizes.",
            show_default="the whole node and half of it, the half with --cp 2 and --dp 2",
        ),
    ] = None
    ep: SeveralExpertRanks = None
    cp: SeveralContextGroups = None
    dp: SeveralDataGroups = None


@dataclass(frozen=True, kw_only=True)
class _Batch:
    PANEL: ClassVar = "Model and batch"

    model: Annotated[str | None, model_option(show_default=DEFAULT_MODEL)] = None
    phase: Annotated[
        str | None, choice("--phase", get_args(Phase), "Phase", show_default="prefill")
    ] = None
    batch: Annotated[
        int | None,
        option(
            "--batch", whole(1), "N", "Requests of all GPUs together.", show_default="largest --dp"
        ),
    ] = None
    prompt: Annotated[
        int | None,
        option("--prompt", tokens, "TOKENS", "Prompt length; 4k = 4096.", show_default="4096"),
    ] = None
    quant: Annotated[
        str | None,
        choice(
            "--quant",
            QUANTS,
            "How the matrix products of the blocks are quantised",
            aliases=QUANT_ALIASES,
            show_default="as the checkpoint is",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Compare(_Cases, _Batch, OutputOptions):
    """Would another layout, engine or machine beat hiding the all-reduces?

    Every technique on every machine, in every engine, on every layout of the GPUs, for one model
    and one batch.
    """

    def run(self) -> None:
        """Predict and print all cases."""
        from isotune.results import Compared
        from isotune.tuner.compare import compare

        if not self.hw:
            raise InputError("give --hw: one machine or several")
        machines = [self._scenario(name) for name in self.hw]
        first, sizes = machines[0], self._sizes(machines)
        at_first = {axis: values[0] for axis, values in sizes.items()}
        engines = self.engine or (DEFAULT,)
        with progress("comparing", not self.as_json) as report:
            found = compare(
                first.with_workload(engine=engines[0], **at_first),
                machines,
                engines,
                report,
                **sizes,
            )
        self.emit(Compared.of(found))

    def _scenario(self, name: str) -> Scenario:
        """The batch on a machine, on the whole node."""
        return isotune.scenario(
            DEFAULT_MODEL if self.model is None else self.model,
            name,
            batch=self._batch,
            prompt=self.prompt,
            phase=self.phase,
            quant=self.quant,
        )

    @property
    def _batch(self) -> int:
        return max(self._groups()[1]) if self.batch is None else self.batch

    def _groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of cp and dp."""
        if self.tp or self.ep or self.cp or self.dp:
            return self.cp or (1,), self.dp or (1,)
        return ((1,) if self.phase == "decode" else (1, 2)), (1, 2)

    def _sizes(self, machines: list[Scenario]) -> dict[str, tuple[int, ...]]:
        """Sizes of each axis, the first machine's layout first."""
        node = machines[0].hardware.node.gpus
        cp, dp = self._groups()
        asked = self.tp or self.ep or self.cp or self.dp
        half = (node // 2,) if not asked and node > 1 else ()
        return {"tp": self.tp or (node, *half), "ep": self.ep or (1,), "cp": cp, "dp": dp}


app = application(command(Compare))
