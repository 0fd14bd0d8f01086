"""One plan on one scenario, explained: latency, parts, memory, interval."""

from isotune.simulator.predict.carriers import site_of
from isotune.simulator.predict.contention import slowdowns
from isotune.simulator.predict.gpu_memory import GpuMemory, Memory
from isotune.simulator.predict.prediction import SERIAL, Prediction, predict
from isotune.simulator.predict.scenario import Scenario
from isotune.simulator.predict.simulated_run import ProgramCosts, SimulatedRun
from isotune.simulator.predict.step_cost import CostModel, Message
from isotune.simulator.predict.step_shape import Rows, StepCost, rows_of
from isotune.simulator.predict.uncertainty import (
    ENGINE_APART,
    LAYOUT_APART,
    Z80,
    Factors,
    latency_interval,
    saving_interval,
)

__all__ = [
    "ENGINE_APART",
    "LAYOUT_APART",
    "SERIAL",
    "Z80",
    "CostModel",
    "Factors",
    "GpuMemory",
    "Memory",
    "Message",
    "Prediction",
    "ProgramCosts",
    "Rows",
    "Scenario",
    "SimulatedRun",
    "StepCost",
    "latency_interval",
    "predict",
    "rows_of",
    "saving_interval",
    "site_of",
    "slowdowns",
]
