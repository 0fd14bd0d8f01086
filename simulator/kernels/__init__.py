"""What one kernel or one collective costs on one GPU."""

from isotune.simulator.kernels.attention import (
    AttentionParameters,
    attention_cost,
    grouped_attention_costs,
)
from isotune.simulator.kernels.collectives import (
    KINDS,
    Algorithm,
    CollectiveCost,
    CollectiveParameters,
    Network,
    Protocol,
    collective_cost,
    protocol_of,
    quantised_all_reduce,
    sent_per_byte,
)
from isotune.simulator.kernels.cost import Array, Cost
from isotune.simulator.kernels.elementwise import ElementwiseParameters, elementwise_cost
from isotune.simulator.kernels.experts import (
    ExpertsCost,
    ExpertsParameters,
    ExpertsShape,
    experts_cost,
)
from isotune.simulator.kernels.gemm import GemmParameters, Size, Tile, gemm_cost, waves
from isotune.simulator.kernels.gpu import Gpu
from isotune.simulator.kernels.inter_node import InterNode
from isotune.simulator.kernels.latent_attention import (
    LatentAttentionParameters,
    LatentSizes,
    analytic_latent,
    latent_attention_cost,
    repeated_latent_attention_cost,
)
from isotune.simulator.kernels.parameter_sets import (
    KernelParameters,
    KernelSet,
    Operands,
    Selected,
    stated_figures,
)
from isotune.simulator.kernels.scan import ScanSizes, scan_cost

__all__ = [
    "KINDS",
    "Algorithm",
    "Array",
    "AttentionParameters",
    "CollectiveCost",
    "CollectiveParameters",
    "Cost",
    "ElementwiseParameters",
    "ExpertsCost",
    "ExpertsParameters",
    "ExpertsShape",
    "GemmParameters",
    "Gpu",
    "InterNode",
    "KernelParameters",
    "KernelSet",
    "LatentAttentionParameters",
    "LatentSizes",
    "Network",
    "Operands",
    "Protocol",
    "ScanSizes",
    "Selected",
    "Size",
    "Tile",
    "analytic_latent",
    "attention_cost",
    "collective_cost",
    "elementwise_cost",
    "experts_cost",
    "gemm_cost",
    "grouped_attention_costs",
    "latent_attention_cost",
    "protocol_of",
    "quantised_all_reduce",
    "repeated_latent_attention_cost",
    "scan_cost",
    "sent_per_byte",
    "stated_figures",
    "waves",
]
