"""`isotune search --storage` and `--join`: one search by many processes and machines."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from isotune.commands.options import StoppedError, plain, progress, say
from isotune.commands.search.job import Job
from isotune.commands.search.options import (
    SharingOptions,
    StorageOptions,
    TrialsOptions,
    WrittenOptions,
)
from isotune.simulator.architecture import load_model
from isotune.simulator.errors import InputError
from isotune.simulator.io import checked
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Plan, Workload

_KEPT = (
    "strategies",
    "spd",
    "comm_dtype",
    "comm_dtypes",
    "trials",
    "seed",
    "sampler",
    "max_chunks",
    "objectives",
    "accuracy_budget",
    "latency_limit",
)


@dataclass(frozen=True, kw_only=True)
class SharedSearch(TrialsOptions, SharingOptions):
    """A search that others can join."""

    NAME: ClassVar = "--storage"

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether a storage is given."""
        return options["storage"] is not None

    def run(self) -> None:
        """Create the study, or find it there, and work on it."""
        from isotune.tuner.search import exact_of, open_storage, space_of, starts

        assert self.storage is not None
        file = self.checked_file()
        job = self.job()
        storage = open_storage(self.storage, on_note=say)
        space = space_of(job.scenario, job.options)
        first = list(starts(space, exact_of(space, job.options)))
        create_study(job, storage, self.study, starts=first)
        _Work(job=job, study=self.study, storage=storage).run(self, file)


@dataclass(frozen=True, kw_only=True)
class JoinedSearch(StorageOptions, WrittenOptions):
    """A search that someone else shares."""

    NAME: ClassVar = "--join, which takes the search from the study"
    PANEL: ClassVar = "Shared search"

    join: Annotated[
        str | None, plain("--join", "STUDY", "Work on a shared search; needs --storage.")
    ] = None

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether a study to join is given."""
        return options["join"] is not None

    def run(self) -> None:
        """Work on the study.

        Raises:
            InputError: no --storage, no such study in it, or one of measured times.
        """
        from isotune.tuner.search import definition_of, open_storage

        assert self.join is not None
        file = self.checked_file()
        if self.storage is None:
            raise InputError("--join needs --storage, where the study is")
        storage = open_storage(self.storage, on_note=say)
        data = definition_of(storage, self.join)
        if data.get("measured"):
            raise InputError(
                f"study {self.join!r} holds measured times; go on with the command that put it up: "
                "isotune search --measured --storage URL --study NAME"
            )
        job = job_of(data, self.join)
        _Work(job=job, study=self.join, storage=storage).run(self, file)


def create_study(
    job: Job, storage: Any, study: str, *, starts: list[Plan], measured: bool = False
) -> None:
    """Create a study in an open storage, or find it there.

    Raises:
        InputError: a study of that name searches something else.
    """
    from isotune.tuner.search import create

    create(_shared(job, study, storage), starts, definition(job, measured))


def definition(job: Job, measured: bool = False) -> dict[str, Any]:
    """What a study keeps of its search, as plain data: whoever joins it reads it back."""
    from isotune.tuner.contents import contents_digest

    hardware, model = job.names
    recovery = job.options.recovery
    return {
        "hardware": hardware,
        "model": model,
        "contents": contents_digest([job.scenario.hardware], [job.scenario.model]),
        "workload": job.scenario.workload.model_dump(mode="json"),
        "options": {name: _plain(getattr(job.options, name)) for name in _KEPT},
        "sensitivity": recovery.table.model_dump(mode="json") if recovery else None,
        "treatments": _plain(recovery.names) if recovery else None,
    } | ({"measured": True} if measured else {})


def job_of(data: dict[str, Any], study: str) -> Job:
    """The search that a study's definition tells of.

    Raises:
        InputError: the hardware or the model is not here, or a field is malformed.
    """
    from isotune.tuner.accuracy import Recovery, Sensitivity
    from isotune.tuner.contents import contents_digest
    from isotune.tuner.search import Options

    workload = checked(Workload, data["workload"], f"study {study}")
    known = {item.name for item in fields(Options)}
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data["options"].items()
        if name in known
    }
    recovery = None
    if data["sensitivity"]:
        names = data.get("treatments")
        table = checked(Sensitivity, data["sensitivity"], f"study {study}")
        recovery = Recovery(table=table, names=None if names is None else tuple(names))
    scenario = Scenario(
        model=load_model(data["model"]),
        hardware=read_profile(data["hardware"]),
        workload=workload,
    )
    if data.get("contents") != contents_digest([scenario.hardware], [scenario.model]):
        raise InputError(
            f"study {study!r:.60}: {data['hardware']}, {data['model']} or isotune's version is not "
            "what the study was put up with (allowed: a new --study)"
        )
    return Job(
        scenario=scenario,
        options=replace(Options(**chosen), recovery=recovery),
        names=(data["hardware"], data["model"]),
    )


def _shared(job: Job, study: str, storage: Any) -> Any:
    from isotune.tuner.search import SharedStudy, judge_of, space_of

    return SharedStudy(
        storage=storage,
        name=study,
        space=space_of(job.scenario, job.options),
        judge=judge_of(job.scenario, job.options),
        trials=job.options.trials,
        seed=job.options.seed,
        sampler=job.options.sampler,
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A study, and this process's part in it."""

    job: Job
    study: str
    storage: Any

    def run(self, asked: WrittenOptions, file: Path) -> None:
        """Run trials; write the best plan that all workers found so far, and print the trials."""
        from isotune import results
        from isotune.tuner.search import Evaluator, work

        job = self.job
        with progress(f"study {self.study}", not asked.as_json) as report:
            trials = work(
                _shared(job, self.study, self.storage),
                Evaluator(job.scenario, job.options.objective),
                report,
            )
        best = None if trials.best is None else predict(job.scenario, trials.best.plan)
        drops = None if best is None else job.write(best, file)
        found = results.SharedSearch.of(
            *(self.study, trials, job.scenario, best),
            plan_file=None if best is None else str(file),
            **results.repairs_of(drops),
        )
        wrote = f"wrote {file}; reproduce with: isotune predict --plan {file}"
        asked.emit(found, *([] if best is None else [wrote]))
        if trials.interrupted:
            raise StoppedError("interrupted; the same command goes on from here")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
