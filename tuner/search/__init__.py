"""The search: objectives, the Optuna study, deployments, shared studies, the Pareto front."""

from isotune.tuner.choices import ObjectiveName, SamplerName
from isotune.tuner.search.best_plan import (
    Options,
    SearchResult,
    exact_of,
    judge_of,
    search,
    space_of,
    starts,
)
from isotune.tuner.search.deployments import DeploymentResult, front_rows, search_deployments
from isotune.tuner.search.distributed import (
    SharedStudy,
    create,
    definition_of,
    open_storage,
    work,
)
from isotune.tuner.search.history import History, TrialRecord, study_of
from isotune.tuner.search.measured import Bench, MeasuredStudy, StudyAddress, candidates_of
from isotune.tuner.search.objectives import Evaluator, Outcome
from isotune.tuner.search.pareto import Point, accuracy_front
from isotune.tuner.search.study import Evaluated, Progress, Settings, Trials, run_study

__all__ = [
    "Bench",
    "DeploymentResult",
    "Evaluated",
    "Evaluator",
    "History",
    "MeasuredStudy",
    "ObjectiveName",
    "Options",
    "Outcome",
    "Point",
    "Progress",
    "SamplerName",
    "SearchResult",
    "Settings",
    "SharedStudy",
    "StudyAddress",
    "TrialRecord",
    "Trials",
    "accuracy_front",
    "candidates_of",
    "create",
    "definition_of",
    "exact_of",
    "front_rows",
    "judge_of",
    "open_storage",
    "run_study",
    "search",
    "search_deployments",
    "space_of",
    "starts",
    "study_of",
    "work",
]
