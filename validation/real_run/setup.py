"""What a validation runs, checked before any process starts. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from isotune.simulator.architecture import bundled_models, check_tp, model_config_file
from isotune.simulator.errors import InputError
from isotune.simulator.files import PlanFile, locate, scenario_of
from isotune.simulator.predict import SERIAL, GpuMemory, Scenario
from isotune.simulator.schedule import STRATEGIES, Plan, check_plan
from isotune.validation.choices import CheckDtype, Device, Launch
from isotune.validation.spd.checkpoint import check_ranks, read_record
from isotune.validation.weights import check_family


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A plan with everything a rank needs to run it; picklable.

    `scenario` has the model truncated to the blocks that run, `config` is its config.json, and
    `weights` the folder of its safetensors, or None for random ones. `check_dtype` is the
    number type in which the numbers are compared, whatever type the timed runs have. `baseline`
    has the serial run, unless its memory does not fit where the plan's does. `emulated`
    says that one device plays one of the ranks, and that its all-reduces are copies. `launch` says
    how a GPU's kernels are launched.
    """

    scenario: Scenario
    plan: Plan
    config: Path
    weights: Path | None
    device: Device
    check_dtype: CheckDtype = "float32"
    repeat: int = 10
    warmup: int = 2
    seed: int = 0
    baseline: tuple[Plan, ...] = (SERIAL,)
    emulated: bool = False
    launch: Launch = "eager"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        file: PlanFile,
        folder: Path,
        *,
        device: Device,
        model: str | None = None,
        hardware: str | None = None,
        layers: int | None = None,
        check_dtype: CheckDtype = "float32",
        repeat: int = 10,
        warmup: int = 2,
        emulate_tp: int | None = None,
        launch: Launch = "eager",
    ) -> Self:
        """The setup of a plan file in `folder`; `emulate_tp` plays one rank of so many.

        Raises:
            InputError: the model, plan or number types cannot run for real.
        """
        scenario = scenario_of(file, folder, hardware=hardware, model=model)
        if emulate_tp is not None:
            scenario = _emulating(scenario, emulate_tp)
        name = model or locate(file.model.name, folder)
        config = model_config_file(name)
        check_family(scenario.model)
        scenario, plan, notes = _truncated(scenario, file.plan, layers)
        check_plan(plan, scenario.model, scenario.workload)
        _check_executable(plan)
        _check_layout(scenario)
        GpuMemory(scenario).check(plan)
        baseline, without = _baseline(scenario)
        notes = (*notes, *without)
        _check_types(scenario)
        scenario = _as_the_executor_runs(scenario, device, launch)
        if device == "cpu" and plan.comm_sms is not None:
            notes = (*notes, "comm_sms has no meaning on cpu and is ignored")
        if emulate_tp is not None:
            check_dtype = "none"
            notes = (*notes, _EMULATION.format(emulate_tp, scenario.hardware.name))
        if device == "cpu" and not scenario.hardware.name.startswith("cpu"):
            name_of = scenario.hardware.name
            notes = (*notes, f"times are predicted for {name_of} and measured on this cpu")
        weights = None if name.lower() in bundled_models() else _weights_beside(config, name)
        notes = (*notes, *_recovery_notes(weights, plan, scenario.workload.tp))
        return cls(
            scenario=scenario,
            plan=plan,
            config=config,
            weights=weights,
            device=device,
            check_dtype=check_dtype,
            repeat=repeat,
            warmup=warmup,
            baseline=baseline,
            emulated=emulate_tp is not None,
            launch=launch,
            notes=notes,
        )

    @property
    def agreed(self) -> str:
        """What all ranks must share beside the plan; a folder's place may differ by node."""
        same = (self.scenario, self.baseline, self.weights is None, self.seed)
        return repr((*same, self.check_dtype, self.repeat, self.warmup, self.device, self.launch))

    @property
    def ranks(self) -> int:
        """Processes the plan needs: one for each rank, or one that plays a rank."""
        return 1 if self.emulated else self.scenario.workload.tp


def default_device() -> Device:
    """`cuda` where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_EMULATION = (
    "EMULATION: one device plays rank 0 of {}; its all-reduces are copies of as many bytes, "
    "paced to the times of {}; numbers are not checked"
)


def _as_the_executor_runs(scenario: Scenario, device: Device, launch: Launch) -> Scenario:
    """The scenario as our own executor runs it: no engine around a pass, nothing to schedule.

    On GPUs it launches kernels one by one, or replays them from a graph.
    """
    runtime = scenario.hardware.runtime.model_copy(update={"eager_step": 0.0})
    scenario = scenario.with_hardware(runtime=runtime)
    if device != "cuda":
        return scenario
    return scenario.with_workload(runtime="cuda_graph" if launch == "graph" else "eager")


def _emulating(scenario: Scenario, tp: int) -> Scenario:
    """The scenario at another number of ranks.

    Raises:
        InputError: one rank has no all-reduce to emulate, or tp does not divide the model.
    """
    if tp < 2:
        raise InputError(f"--emulate-tp: {tp} ranks have no all-reduce (allowed: 2 or more)")
    check_tp(scenario.model, tp)
    return scenario.with_workload(tp=tp)


def _check_layout(scenario: Scenario) -> None:
    """Refuse what the executor has no groups of ranks for."""
    ranks = scenario.workload.parallelism
    if ranks.ep > 1 or ranks.gpus != ranks.tp:
        raise InputError(
            f"{ranks.text}: real runs share matrices only (allowed: tp alone, without ep and dp)"
        )


def _check_executable(plan: Plan) -> None:
    if not plan.how.executable:
        able = ", ".join(name for name, how in STRATEGIES.items() if how.executable)
        reason = plan.how.caveat or "its kernels are an engine's own"
        raise InputError(
            f"plan: strategy: {plan.strategy} cannot be run here: {reason} (allowed: {able})"
        )


def _truncated(
    scenario: Scenario, plan: Plan, layers: int | None
) -> tuple[Scenario, Plan, tuple[str, ...]]:
    blocks = scenario.model.num_hidden_layers
    if layers is None or layers == blocks:
        return scenario, plan, ()
    if not 1 <= layers < blocks:
        raise InputError(
            f"--layers: {scenario.model.name} has {blocks} blocks (allowed: 1 to {blocks})"
        )
    check_plan(plan, scenario.model, scenario.workload)
    kept = {"dropped": tuple(block for block in plan.dropped if block < layers)}
    notes = (f"model truncated to its first {layers} of {blocks} blocks",)
    shortened = scenario.with_model(num_hidden_layers=layers)
    return shortened, plan.model_copy(update=kept), notes


def _baseline(scenario: Scenario) -> tuple[tuple[Plan, ...], tuple[str, ...]]:
    """The serial run if it fits the profile's GPU, and else a note that says why it is left out."""
    needed = GpuMemory(scenario).of(SERIAL)
    if needed.fits:
        return (SERIAL,), ()
    note = (
        f"the serial run is not measured: it needs {needed.needed / 1e9:.1f} GB per GPU of "
        f"{needed.capacity / 1e9:.1f} GB; its predicted time is as if it fitted"
    )
    return (), (note,)


def _check_types(scenario: Scenario) -> None:
    workload = scenario.workload
    if workload.sequences:
        raise InputError(
            f"sequences: real runs take a prefill or a decode, not a batch of {workload.text}"
        )
    if workload.dtype != workload.travel_dtype:
        raise InputError(
            f"dtype: real runs multiply in the type activations travel in, not in "
            f"{workload.dtype} (allowed: {workload.travel_dtype})"
        )
    if workload.weight_dtype != workload.dtype:
        raise InputError(
            f"weight_dtype: real runs hold weights in the activations' type, not in "
            f"{workload.weight_dtype} (allowed: {workload.dtype})"
        )
    if {*scenario.usual_operands, scenario.kv_dtype} != {workload.travel_dtype}:
        raise InputError(
            f"quant, kv_dtype: real runs compute and cache in {workload.travel_dtype}, the plan is "
            f"for {workload.types} (allowed: quant bf16 and kv_dtype bf16)"
        )


def _weights_beside(config: Path, name: str) -> Path | None:
    """The folder's weights; random ones where only a config.json was named or is there."""
    folder = config.parent
    if not Path(name).is_dir():
        return None
    found = {path.suffix for path in folder.iterdir()}
    if ".safetensors" not in found and found & {".bin", ".pt", ".pth"}:
        raise InputError(
            f"{folder}: its weights are pickled, which could run code, and are refused "
            "(allowed: *.safetensors)"
        )
    return folder if ".safetensors" in found else None


def _recovery_notes(weights: Path | None, plan: Plan, tp: int) -> tuple[str, ...]:
    """Where a plan's drops differ from what `isotune recover` made the folder for."""
    record = None if weights is None else read_record(weights)
    if weights is None or record is None:
        return ()
    if plan.dropped:
        check_ranks(weights, record, tp)
    bare = sorted(set(plan.dropped) - set(record.dropped))
    kept = [one.block for one in record.blocks if one.distilled and one.block not in plan.dropped]
    notes = []
    if bare:
        notes.append(f"blocks {bare} are dropped without recovery")
    if kept:
        notes.append(f"blocks {kept} were distilled to run without the sync that the plan keeps")
    return tuple(notes)
