"""`isotune sensitivity`: what each dropped attention all-reduce costs a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from isotune.commands.options import (
    OutputOptions,
    TextOptions,
    application,
    choice,
    command,
    fraction,
    option,
    output_option,
    plain,
    progress,
    resumable,
    treatment_names,
    two_fractions,
    whole,
)
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, csv_text, write_text
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.tuner.accuracy import Sensitivity as Table
    from isotune.tuner.accuracy import Thresholds
    from isotune.validation.spd.checkpoint import PartialRun
    from isotune.validation.spd.model import Corpus, Network, Scan, Windows

_DEFAULT_QUANTILES = (0.6, 0.9)
"""The paper drops about 60 % of the blocks as they are, and about 91 % after recovery."""


@dataclass(frozen=True, kw_only=True)
class _ClassOptions:
    PANEL: ClassVar = "Classes of blocks (one of these)"

    tau: Annotated[
        tuple[float, float] | None,
        option(
            "--tau",
            two_fractions,
            "SHARE,SHARE",
            "Thresholds tau1,tau2 of the growth of perplexity, such as 0.1%,1%.",
            show_default=False,
        ),
    ] = None
    quantiles: Annotated[
        tuple[float, float] | None,
        option(
            "--quantiles",
            two_fractions,
            "SHARE,SHARE",
            "Shares of the blocks up to ISB and up to SB.",
            show_default="60%,90%",
        ),
    ] = None
    accuracy_budget: Annotated[
        float | None,
        option(
            "--accuracy-budget",
            fraction,
            "SHARE",
            "Growth of perplexity that the ISBs together may cost.",
        ),
    ] = None

    def check_classes(self) -> None:
        """Refuse two ways of choosing the classes.

        Raises:
            InputError: which ones.
        """
        given = {
            "--tau": self.tau,
            "--quantiles": self.quantiles,
            "--accuracy-budget": self.accuracy_budget,
        }
        first, *others = [flag for flag, value in given.items() if value is not None] or [""]
        if others:
            raise InputError(f"{first} and {others[0]} exclude each other")

    def thresholds(self, costs: tuple[float, ...]) -> "Thresholds":
        """The thresholds between the classes of these costs."""
        from isotune.tuner.accuracy import Thresholds

        if self.accuracy_budget is not None:
            return Thresholds.by_budget(costs, self.accuracy_budget)
        if self.tau is not None:
            return Thresholds(tau1=self.tau[0], tau2=self.tau[1])
        return Thresholds.by_quantiles(costs, *(self.quantiles or _DEFAULT_QUANTILES))


@dataclass(frozen=True, kw_only=True)
class Sensitivity(_ClassOptions, TextOptions, OutputOptions):
    """Measure the perplexity that each dropped attention all-reduce of a checkpoint costs."""

    model: Annotated[Path, plain("--model", "FOLDER", "Hugging Face folder.")]
    tp: Annotated[int, option("--tp", whole(2), "N", "Tensor-parallel size.")]
    output: Annotated[Path, output_option("File to write.")] = Path("sensitivity.json")
    scan: Annotated[
        str,
        choice(
            "--scan",
            ("single", "cumulative"),
            "What defines a block's cost, its drop alone or with all blocks after it",
        ),
    ] = "single"
    treatments: Annotated[
        tuple[str, ...] | None,
        option(
            "--treatments",
            treatment_names,
            "NAMES",
            "Also each block's cost after recovery steps, such as bias,bias+distil.",
        ),
    ] = None
    stride: Annotated[
        int | None,
        option(
            "--stride",
            whole(1),
            "N",
            "Tokens between the starts of two windows.",
            show_default="--context",
        ),
    ] = None

    def run(self) -> None:
        """Scan the blocks, write the table and print it."""
        self.check_classes()
        tidy = self.output.with_name(f"{self.output.stem}-blocks.csv")
        for path in (self.output, tidy):
            check_writable(path)
        require_validate_extra()
        from isotune.results import SensitivityScan
        from isotune.validation.spd.checkpoint import PartialRun
        from isotune.validation.spd.model import load_network, scan

        device = self.torch_device()
        corpus, torch_dtype = self.corpus(self.model, self.text, self.tp, self.dtype)
        windows = corpus.windows(
            self.context, stride=self.stride, count=self.windows, seed=self.seed
        )
        partial = PartialRun.beside(self.output, self._digest(corpus, device))
        network = load_network(self.model, self.tp, dtype=torch_dtype, device=device)
        with resumable(), progress("scanning", not self.as_json) as report:
            found = scan(network, windows, batch=self.eval_batch, kept=partial, on_progress=report)
        gains: Mapping[str, tuple[float, ...]] = {}
        if self.treatments:
            gains = self._gains(network, corpus, partial)
        table = self._table(network, found, corpus, gains, windows)
        write_text(self.output, table.model_dump_json(indent=2) + "\n")
        partial.remove()
        result = SensitivityScan.of(table, str(self.output), found)
        write_text(tidy, csv_text(SensitivityScan.TIDY, result.tidy()))
        self.emit(result, f"wrote {self.output}", f"wrote {tidy}")

    def _digest(self, corpus: "Corpus", device: Any) -> str:
        """Identifies the scan: an interrupted one goes on only where all of this is the same."""
        from isotune.validation.spd.model import digest_of

        return digest_of(
            self.model,
            corpus.digest,
            self.tp,
            self.context,
            self.stride,
            self.windows,
            self.seed,
            self.eval_batch,
            self.dtype,
            device,
        )

    def _gains(
        self, network: "Network", corpus: "Corpus", partial: "PartialRun"
    ) -> dict[str, tuple[float, ...]]:
        """What each of the treatments gains; an interrupted run goes on where it was."""
        from isotune.validation.spd.recover import single_gains

        assert self.treatments is not None
        with resumable(), progress("repairing", not self.as_json) as report:
            return single_gains(
                self.measurement(network, corpus),
                self.treatments,
                kept=partial,
                on_progress=report,
            )

    def _table(
        self,
        network: "Network",
        found: "Scan",
        corpus: "Corpus",
        gains: Mapping[str, tuple[float, ...]],
        windows: "Windows",
    ) -> "Table":
        """The table of a scan, with what it was measured on."""
        from isotune.tuner.accuracy import Measured
        from isotune.tuner.accuracy import Sensitivity as Table

        costs = found.growth(self.scan)
        thresholds = self.thresholds(costs)
        return Table(
            model=network.shape.name,
            blocks=costs,
            treatments={
                name: tuple(cost + gain for cost, gain in zip(costs, row, strict=True))
                for name, row in gains.items()
            },
            classes=thresholds.classes(costs),
            tau1=thresholds.tau1,
            tau2=thresholds.tau2,
            measured=Measured(
                tp=self.tp,
                scan=self.scan,  # type: ignore[arg-type]
                perplexity=found.perplexity,
                single=found.single,
                cumulative=found.cumulative,
                text=corpus.digest,
                tokens=windows.tokens,
                context=self.context,
                stride=self.stride or self.context,
                windows=len(windows),
                seed=self.seed,
                dtype=self.dtype,
            ),
        )


app = application(
    command(Sensitivity), renamed={"batch": "eval-batch", "budget": "accuracy-budget"}
)
