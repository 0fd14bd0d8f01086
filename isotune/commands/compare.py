"""`isotune compare`: machines, engines, layouts and techniques side by side."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import isotune
from isotune.commands.options import (
    DEFAULT_MODEL,
    TECHNIQUES,
    Choices,
    ModelOptions,
    OutputOptions,
    SeveralContextGroups,
    SeveralDataGroups,
    SeveralExpertRanks,
    application,
    choices,
    command,
    counts,
    hardware_option,
    names,
    option,
    progress,
    reader,
    tokens,
    whole,
)
from isotune.simulator.engines import DEFAULT, ENGINES
from isotune.simulator.errors import InputError
from isotune.simulator.predict import Scenario


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
    strategies: Annotated[
        tuple[str, ...] | None,
        choices(
            "--strategies",
            Choices(TECHNIQUES, "technique"),
            "Techniques",
            show_default="all, and those of engines' own kernels",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class _Batch(ModelOptions):
    PANEL: ClassVar = "Scenario"

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
                self.strategies or TECHNIQUES,
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
            **self.pass_fields,
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
