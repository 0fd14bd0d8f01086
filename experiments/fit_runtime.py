"""Fits what running engines add to kernels, from a table of whole passes on H100.

    python experiments/fit_runtime.py end_to_end.csv [--hw h100]

Prints, each with its error on the rows it was fitted to and on runs of 4 GPUs, which are held
back: `runtime.sustained_clock` and `runtime.eager_step` (vLLM prefills), the states of the
ladder-residual engine in `validation/check/measured_engines.py` (its runs without
communication), and `runtime.memory_interference` (savings of overlapped prefills on NVLink, at
least 4 requests in the ladder runs: fewer are bound by the host). Nothing is written.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from isotune.simulator.machine import HardwareProfile, read_profile
from isotune.validation.check.measured_engines import LADDER_STATES, Engine
from isotune.validation.check.measured_passes import HELD_BACK_TP, run_seconds
from isotune.validation.tables import Run, read_runs

Vector = npt.NDArray[np.float64]
OVERLAPPED = ("ladder", "split_overlap_fused_norm")


def with_runtime(profile: HardwareProfile, **values: float) -> HardwareProfile:
    """The profile with other runtime figures, SI units."""
    return profile.model_copy(update={"runtime": profile.runtime.model_copy(update=values)})


def solve(name: str, off: Callable[[Vector, Run], float], start: Vector, runs: list[Run]) -> Vector:
    """Robust least squares over the runs not held back; prints the errors of both parts."""
    held = [run for run in runs if run.tp == HELD_BACK_TP]
    kept = [run for run in runs if run.tp != HELD_BACK_TP]

    def residuals(scale: Vector, part: Sequence[Run] = kept) -> Vector:
        return np.array([off(start * scale, run) for run in part])

    found = least_squares(
        residuals, np.ones(len(start)), loss="soft_l1", f_scale=0.03, bounds=(0.01, 100)
    )
    errors = [float(np.abs(residuals(found.x, part)).mean()) for part in (kept, held)]
    values = start * found.x
    print(
        f"{name}: {', '.join(f'{value:.3g}' for value in values)}; off by {errors[0]:.1%} on "
        f"{len(kept)} runs, {errors[1]:.1%} on {len(held)} held back"
    )
    return values


def fit_clock(runs: list[Run], profile: HardwareProfile) -> HardwareProfile:
    """Sustained clock and host time per pass, from serving-engine passes without overlap."""

    def machine(x: Vector) -> HardwareProfile:
        return with_runtime(profile, sustained_clock=float(x[0]), eager_step=float(x[1]))

    def off(x: Vector, run: Run) -> float:
        return float(np.log(run_seconds(run, machine(x)) / run.step_s))

    wanted = [r for r in runs if r.launch == "eager" and r.strategy not in OVERLAPPED]
    return machine(solve("sustained_clock, eager_step (s)", off, np.array([0.8, 4e-3]), wanted))


def fit_states(runs: list[Run], profile: HardwareProfile) -> dict[int, Engine]:
    """The ladder engine's states, prefill and decode apart."""
    states = dict(LADDER_STATES)
    for generated in LADDER_STATES:
        found: dict[str, Vector] = {}
        for phase, passes in (("prefill", "score_passes"), ("decode", "cache_passes")):

            def off(x: Vector, run: Run) -> float:
                engine = Engine(
                    name="", score_passes=x[0], cache_passes=x[0], small_kernels=(x[1], x[1])
                )
                seconds = run_seconds(run, profile, dict.fromkeys(LADDER_STATES, engine))
                return float(np.log(seconds / run.step_s))

            wanted = [
                r
                for r in runs
                if r.source.startswith("ladder")
                and (r.strategy, r.phase, r.generated) == ("no_comm", phase, generated)
            ]
            title = f"{generated} tokens generated, {phase}: {passes}, small_kernels"
            found[phase] = solve(title, off, np.array([10.0, 10.0]), wanted)
        states[generated] = Engine(
            name="fitted",
            score_passes=found["prefill"][0],
            cache_passes=found["decode"][0],
            small_kernels=(found["prefill"][1], found["decode"][1]),
        )
    return states


def fit_interference(runs: list[Run], profile: HardwareProfile, states: dict[int, Engine]) -> None:
    """What a collective's memory traffic costs the kernels beside it."""
    serial = {run.case: run for run in runs if run.strategy == "serial"}

    def off(x: Vector, run: Run) -> float:
        machine = with_runtime(profile, memory_interference=float(x[0]))
        base = serial[run.case]
        predicted = run_seconds(run, machine, states) / run_seconds(base, machine, states)
        return run.step_s / base.step_s - predicted

    wanted = [r for r in runs if r.strategy in OVERLAPPED and r.case in serial and _bound(r)]
    for link in ("nvlink_nccl", "nvlink_multimem"):
        some = [run for run in wanted if run.link == link]
        solve(f"memory_interference ({link}, saving)", off, np.array([2.0]), some)
    solve("memory_interference (both, saving)", off, np.array([2.0]), wanted)


def _bound(run: Run) -> bool:
    """Whether the GPU and its NVLink, not the host, set the time of an overlapped run."""
    if run.phase != "prefill" or not run.link.startswith("nvlink"):
        return False
    return run.batch >= 4 or not run.source.startswith("ladder")


def main(arguments: Iterable[str] | None = None) -> None:
    """Print the fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--hw", default="h100")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    runs = list(read_runs(asked.table))
    profile = fit_clock(runs, read_profile(asked.hw))
    states = fit_states(runs, profile)
    fit_interference(runs, profile, states)


if __name__ == "__main__":
    main()
