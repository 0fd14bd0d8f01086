"""A hook for lm-evaluation-harness: its tasks on the original model and on the plan.

The harness drives a model of transformers; within `isotune.validation.reference.lossy` that model
computes what the plan's ranks compute, so the tasks need no adapter of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isotune.simulator.errors import InputError
from isotune.validation.real_run.quality import as_planned, dtype_of
from isotune.validation.real_run.setup import Setup

PACKAGES = ("lm_eval", "accelerate")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of a task, with its filter (`acc,none`), on the original model and the plan."""

    task: str
    metric: str
    original: float
    planned: float


def require_harness() -> None:
    """Refuse where lm-evaluation-harness is missing.

    Raises:
        InputError: what to install.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"--lm-eval needs {' and '.join(missing)}: pip install 'lm_eval[hf]'")


def run_tasks(
    setup: Setup,
    original: Path | None,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    limit: int | None = None,
) -> tuple[Score, ...]:
    """Every task's metrics; `folder` holds task files of one's own, `limit` cuts each task.

    Raises:
        InputError: the harness is missing, or it refuses a task (unknown, data set not at hand).
    """
    require_harness()
    assert setup.weights is not None
    changed = _load(setup, setup.weights)
    whole = changed if original is None else _load(setup, original)
    before = _scores(whole, tasks, folder, limit)
    with as_planned(changed.model, setup):
        after = _scores(changed, tasks, folder, limit)
    return tuple(
        Score(
            task=task,
            metric=metric,
            original=value,
            planned=after[task][metric],
        )
        for task, values in before.items()
        for metric, value in values.items()
        if "," in metric and "_stderr" not in metric and isinstance(value, (int, float))
    )


def _load(setup: Setup, folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype_of(setup), local_files_only=True, trust_remote_code=False
    ).to(setup.device)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return HFLM(pretrained=model.eval(), tokenizer=tokenizer, backend="causal", batch_size=4)


def _scores(
    model: Any, tasks: Sequence[str], folder: Path | None, limit: int | None
) -> dict[str, dict[str, Any]]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=None if folder is None else str(folder))
        found = lm_eval.simple_evaluate(
            model=model, tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0
        )
    except Exception as error:  # its kinds differ from task to task
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"--lm-eval: the harness refuses {', '.join(tasks)}: {reason}") from error
    results: dict[str, dict[str, Any]] = found["results"]
    return results
