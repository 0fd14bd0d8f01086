"""`isotune search --measured`: candidates and Optuna's trials on real devices."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from isotune.commands.options import DeviceOption, duration, end, option, progress, say
from isotune.commands.search.job import Job
from isotune.commands.search.options import ONE_CASE, SharingOptions, TrialsOptions
from isotune.commands.search.shared import create_study
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile
from isotune.simulator.predict import SERIAL, GpuMemory, predict
from isotune.simulator.schedule import Plan
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.real_run import Setup

_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class MeasuredSearch(TrialsOptions, SharingOptions):
    """A search by the times of real runs."""

    NAME: ClassVar = "--measured"
    PANEL: ClassVar = "Real runs"
    INSTEAD: ClassVar = {"measured": ONE_CASE, **SharingOptions.INSTEAD}

    measured: Annotated[
        bool, typer.Option("--measured", help="Run plans on this machine and search by real time.")
    ] = False
    time_budget: Annotated[
        float | None,
        option(
            "--time-budget",
            duration,
            "TIME",
            "Time to measure, such as 600s, 10min or 1h.",
            show_default="600s",
        ),
    ] = None
    device: DeviceOption = None

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether --measured is given."""
        return bool(options["measured"])

    def run(self) -> None:
        """Search with real runs; write and print the fastest plan."""
        from isotune import results

        file = self.checked_file()
        job = self.job()
        require_validate_extra()
        storage = self._opened()
        setup, starts = self._prepared(job)
        if storage is not None:
            create_study(job, storage, self.study, starts=list(starts), measured=True)
        run = self._driven(job, setup, starts)
        if run is None:
            return
        found = results.MeasuredSearch.of(setup.scenario, run, starts)
        if found is None:
            end(run.failure or "nothing was measured")
            return
        drops = job.write(predict(job.scenario, found.plan), file)
        repairs = results.repairs_of(drops)
        whole = found.model_copy(update=repairs | {"plan_file": str(file)})
        self.emit(whole, f"wrote {file}; check its numbers with: isotune validate {file}")
        end(found.failure)

    def _opened(self) -> Any:
        """The storage, on the rank that creates the study; None on others and without one."""
        from isotune.tuner.search import open_storage
        from isotune.validation.ranks import leads

        return open_storage(self.storage, on_note=say) if self.storage and leads() else None

    def _prepared(self, job: Job) -> "tuple[Setup, tuple[Plan, ...]]":
        """What runs on the devices, and the plans that are measured first.

        Raises:
            InputError: another objective than latency, or what this machine cannot run.
        """
        from isotune.tuner.search import candidates_of, search
        from isotune.validation.real_run import Setup, default_device

        if job.options.objectives != ("latency",):
            raise InputError("--measured: measures latency alone (allowed: --objectives latency)")
        GpuMemory(job.scenario).check(SERIAL)  # it is run as well
        best = search(job.scenario, job.options).best
        setup = Setup.of(
            PlanFile.of(best, *job.names),
            Path.cwd(),
            device=self.device or default_device(),  # type: ignore[arg-type]
            check_dtype="none",
        )
        return setup, candidates_of(setup.scenario, job.options, best.plan)

    def _driven(self, job: Job, setup: "Setup", starts: tuple[Plan, ...]) -> Any:
        """Run the search on the devices; None on a rank that has nothing to say."""
        from isotune.tuner.search import MeasuredStudy, StudyAddress
        from isotune.validation.real_run import run_benchmark

        budget_s = self.time_budget or 600.0
        driver = MeasuredStudy(
            scenario=setup.scenario,
            options=job.options,
            candidates=starts,
            budget_s=budget_s,
            shared=None
            if self.storage is None
            else StudyAddress(url=self.storage, study=self.study),
        )
        with _clock(budget_s, not self.as_json) as tell:
            return run_benchmark(setup, driver, timeout_s=_TIMEOUT_S, on_message=tell)


@contextmanager
def _clock(budget_s: float, wanted: bool) -> Iterator[Callable[[], None]]:
    """A progress bar of the time that is spent, from the first message on."""
    begun: float | None = None
    with progress("measuring", wanted) as report:

        def tell() -> None:
            nonlocal begun
            begun = begun or time.monotonic()
            if report:
                report(int(min(time.monotonic() - begun, budget_s)), int(budget_s))

        yield tell
