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
from isotune.tuner.search.deployments import (
    DeploymentResult,
    front_rows,
    layouts_of,
    search_deployments,
)
from isotune.tuner.search.distributed import (
    SharedStudy,
    create,
    definition_of,
    work,
)
from isotune.tuner.search.measured import Bench, MeasuredStudy, StudyAddress, candidates_of
from isotune.tuner.search.objectives import Evaluator
from isotune.tuner.search.pareto import Point, accuracy_front
from isotune.tuner.search.storages import open_storage
from isotune.tuner.search.study import Progress, Settings, Trials, run_study
from isotune.tuner.search.trial import Trial, study_of

__all__ = [
    "Bench",
    "DeploymentResult",
    "Evaluator",
    "MeasuredStudy",
    "ObjectiveName",
    "Options",
    "Point",
    "Progress",
    "SamplerName",
    "SearchResult",
    "Settings",
    "SharedStudy",
    "StudyAddress",
    "Trial",
    "Trials",
    "accuracy_front",
    "candidates_of",
    "create",
    "definition_of",
    "exact_of",
    "front_rows",
    "judge_of",
    "layouts_of",
    "open_storage",
    "run_study",
    "search",
    "search_deployments",
    "space_of",
    "starts",
    "study_of",
    "work",
]
