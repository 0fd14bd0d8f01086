"""Optuna's samplers by name."""

import importlib
import warnings

import optuna

from isotune.simulator.errors import InputError
from isotune.simulator.io import check_known
from isotune.tuner.choices import SAMPLERS, SamplerName


def sampler_of(name: SamplerName, seed: int | None, objectives: int) -> optuna.samplers.BaseSampler:
    """A sampler; `auto` is tpe for one objective and nsga2 for several.

    (With `auto`, half of every batch are neighbours of the best plans; see `search.study`.)

    Raises:
        InputError: an unknown name, one that needs a package that is missing, or one that
            cannot do what is asked.
    """
    check_known("sampler", (name,), SAMPLERS)
    if name == "auto":
        name = "tpe" if objectives == 1 else "nsga2"
    if name == "cmaes" and objectives > 1:
        raise InputError("sampler: cmaes has one objective (allowed for several: tpe, nsga2, gp)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _sampler(name, seed)
        except ImportError as error:
            missing = "torch" if name == "gp" else name
            raise InputError(f"sampler: {name} needs {missing} (pip install {missing})") from error


def _sampler(name: SamplerName, seed: int | None) -> optuna.samplers.BaseSampler:
    samplers = optuna.samplers
    match name:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=24)
        case "gp":
            importlib.import_module("torch")  # Optuna would only miss it at the first trial
            return samplers.GPSampler(seed=seed)
        case "cmaes":
            importlib.import_module("cmaes")
            return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case _:
            return samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=24)
