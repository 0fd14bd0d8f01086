"""One plan on one scenario, explained: latency, parts, memory, interval."""

from isotune.simulator.predict.gpu_memory import GpuMemory, Memory
from isotune.simulator.predict.prediction import SERIAL, Prediction, predict
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.simulated_run import PricedRun, ProgramCosts
from isotune.simulator.predict.step_cost import Pricer, Rows, StepCost, rows_of, slowdowns
from isotune.simulator.predict.uncertainty import (
    Z80,
    Factors,
    latency_interval,
    saving_interval,
)

__all__ = [
    "SERIAL",
    "Z80",
    "Factors",
    "GpuMemory",
    "Memory",
    "Prediction",
    "PricedRun",
    "Pricer",
    "ProgramCosts",
    "Rows",
    "Scenario",
    "StepCost",
    "latency_interval",
    "predict",
    "rows_of",
    "saving_interval",
    "slowdowns",
]
