"""All-reduce across nodes: reduce-scatter inside each, all-reduce between, all-gather inside.

The two steps inside a node together send what one all-reduce inside it sends (a ring all-reduce
is these two steps). Between nodes every GPU all-reduces its shard, 1 / gpus of the message, with
the GPUs of its place in the other nodes, in a ring over its own network link (NCCL's rail-aligned
hierarchy; Thakur et al. 2005 for the cost of a ring).
"""

from pydantic import Field

from isotune.simulator.io import BytesPerSecond, Schema, Seconds
from isotune.simulator.kernels.cost import Array


class InterNode(Schema):
    """The network between nodes of one kind, as one GPU sees it."""

    nodes: int = Field(ge=2, le=1024, description="nodes")
    link_bandwidth: BytesPerSecond = Field(ge=1e6, le=1e15, description="per GPU, one direction")
    latency: Seconds = Field(gt=0, le=1e-3, description="one message between two nodes")
    efficiency: float = Field(gt=0.1, le=1, default=0.8, description="attained share of the link")

    def seconds(self, shard_bytes: Array, nodes: int) -> Array:
        """Time of an all-reduce of `shard_bytes` per GPU among `nodes` nodes, shape kept."""
        steps = 2 * (nodes - 1)
        per_byte = steps / nodes / (self.link_bandwidth * self.efficiency)
        return steps * self.latency + per_byte * shard_bytes
