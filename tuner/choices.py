"""The names that a search takes, readable without Optuna."""

from typing import Literal, get_args

SamplerName = Literal["auto", "tpe", "nsga2", "gp", "cmaes", "random"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
ObjectiveName = Literal["latency", "throughput", "accuracy_cost", "transfer_loss"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
RobustMode = Literal["expected", "worst"]
MODES: tuple[RobustMode, ...] = get_args(RobustMode)

SHORTEST_MEASURED = 1024
"""The shortest prompt (tokens) of a published overlapped run that the model was held to:
TokenWeave, Qwen2.5-72B on 8x H100. What is said of shorter ones rests on single kernels."""
