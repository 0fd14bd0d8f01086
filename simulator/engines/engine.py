"""What serving software does with a block: a schema of facts, each with its source.

An engine decides, for every message, which all-reduce carries it. It asks its *gates* in order, and
the first that takes the message decides; a message that no gate takes goes to the library (NCCL,
RCCL). A gate looks at the GPU, the link, the number of ranks, the bytes and the tokens.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from isotune.simulator.engines.algorithms import ALGORITHMS, LIBRARY
from isotune.simulator.errors import InputError
from isotune.simulator.io import Bytes, Schema, Seconds

LaunchMode = Literal["cuda_graph", "piecewise_graph", "eager"]
"""All kernels of a pass in one CUDA graph; all but attention's; or each launched by the host."""
Link = Literal["nvlink", "pcie", "infinity_fabric"]


class Site(NamedTuple):
    """What a gate asks of a machine: its GPU, its memory in bytes, and what links its GPUs."""

    machine: str
    architecture: str | None
    memory: float
    link: str
    peer_to_peer: bool
    gpus: int


class Where(Schema):
    """GPUs and links on which something holds; what is left out does not matter."""

    architectures: tuple[str, ...] = Field(default=(), description="sm90, sm103, ...")
    links: tuple[Link, ...] = Field(default=(), description="what joins the GPUs")
    peer_to_peer: bool | None = Field(default=None, description="whether GPUs reach each other")
    smallest_memory: Bytes | None = Field(default=None, gt=0, description="of one GPU")

    def holds(self, site: Site) -> bool:
        """Whether it holds on a machine.

        Raises:
            InputError: it depends on an architecture that the machine's profile does not name.
        """
        if self.architectures and site.architecture is None:
            raise InputError(
                f"gpu.architecture: {site.machine} does not name it, and an engine chooses kernels "
                "by it (allowed: such as sm90)"
            )
        return (
            (not self.architectures or site.architecture in self.architectures)
            and (not self.links or site.link in self.links)
            and self.peer_to_peer in (None, site.peer_to_peer)
            and (self.smallest_memory is None or site.memory >= self.smallest_memory)
        )


class Gate(Where):
    """Messages that one all-reduce algorithm carries.

    `largest` are bytes by number of ranks: a number of ranks that it does not list is not taken.
    """

    algorithm: str
    ranks: tuple[int, ...] = Field(default=(), description="numbers of ranks; all if empty")
    largest: dict[int, Bytes] = Field(default_factory=dict, description="by number of ranks")
    fewest_tokens: int = Field(default=0, ge=0)
    most_tokens: int | None = Field(default=None, ge=1)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _the_algorithm_is_known(self) -> "Gate":
        if self.algorithm not in ALGORITHMS:
            raise ValueError(
                f"algorithm: unknown {self.algorithm!r:.40} (allowed: {', '.join(ALGORITHMS)})"
            )
        return self

    def serves(self, ranks: int) -> bool:
        """Whether it takes any message among so many ranks."""
        return (
            ranks > 1
            and (not self.ranks or ranks in self.ranks)
            and (not self.largest or ranks in self.largest)
        )


class TokenBudget(Where):
    """Most tokens of a step (vLLM's `max_num_batched_tokens`)."""

    value: int = Field(ge=1)
    source: str = Field(min_length=1)


class MemoryFraction(Schema):
    """Share of a GPU's memory that the engine uses."""

    value: float = Field(gt=0, le=1)
    source: str = Field(min_length=1)


class KvType(Schema):
    """Type of the KV cache unless asked for; None where it follows the checkpoint."""

    value: str | None
    source: str = Field(min_length=1)


class StepTime(Schema):
    """What the engine's own work adds to a pass that runs from graphs."""

    value: Seconds = Field(ge=0, le=0.1)
    source: str = Field(min_length=1)


class Launches(Schema):
    """How the kernels of a pass are launched, by what the pass is."""

    prefill: LaunchMode = Field(description="prompts, chunks of prompts, and mixed batches")
    decode: LaunchMode
    source: str = Field(min_length=1)

    def of(self, phase: str) -> LaunchMode:
        """How a pass of this phase is launched."""
        return self.decode if phase == "decode" else self.prefill


class Case(NamedTuple):
    """What decides whether an engine runs a plan: machine, family of the model, and layout."""

    site: Site
    family: str
    dispatches: bool


class Run(Where):
    """A strategy that an engine runs, and where.

    `dispatches`: only where tokens travel to experts of other ranks.
    """

    strategy: str
    families: tuple[str, ...] = Field(default=(), description="of models; all if empty")
    dispatches: bool = False
    how: str = Field(min_length=1)
    source: str = Field(min_length=1)

    def obstacle(self, case: Case) -> str | None:
        """Why it does not run here; None where it does."""
        if self.dispatches and not case.dispatches:
            return f"{self.how}, and here no tokens travel to experts of other ranks"
        if not self.holds(case.site):
            return f"{self.how}{_where_text(self)}, and this is {case.site.machine}"
        if self.families and case.family not in self.families:
            return f"{self.how} ({', '.join(self.families)}), and this is {case.family}"
        return None


class Refusal(Schema):
    """Why an engine does not run a strategy, and what to do instead."""

    why: str = Field(min_length=1)
    source: str = Field(min_length=1)


class Engine(Schema):
    """A serving engine as it is set up by default, in one version."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    title: str
    version: str = Field(min_length=1, description="the version that the facts are about")
    description: str = Field(max_length=300)
    all_reduce: tuple[Gate, ...] = Field(default=(), description="asked in this order")
    launches: Launches
    step_time: StepTime
    token_budget: tuple[TokenBudget, ...] = Field(description="the first that holds")
    memory_fraction: MemoryFraction | None = None
    kv_dtype: KvType
    assumed: tuple[str, ...] = Field(default=(), description="what the facts leave out")
    runs: tuple[Run, ...] = Field(default=(), description="strategies beside serial")
    refuses: dict[str, Refusal] = Field(
        default_factory=dict, description="by strategy; any other one under `others`"
    )
    instead: str = Field(default="", description="what to do where a plan is refused")
    options: tuple[str, ...] = Field(default=(), description="flags and settings of this version")

    def gates(self, site: Site, ranks: int) -> tuple[Gate, ...]:
        """The gates that a machine and a number of ranks leave.

        None where the ranks are on several nodes: what engines have beside the library is for one.

        Raises:
            InputError: a gate depends on an architecture that the profile does not name.
        """
        if ranks > site.gpus:
            return ()
        return tuple(gate for gate in self.all_reduce if gate.serves(ranks) and gate.holds(site))

    def budget(self, site: Site) -> TokenBudget | None:
        """Most tokens of a step on a machine; None where the engine has no limit of its own."""
        return next((one for one in self.token_budget if one.holds(site)), None)

    def refusal(self, strategy: str, case: Case) -> str | None:
        """Why it does not run a strategy, and what to do instead; None where it does.

        Raises:
            InputError: it depends on an architecture that the profile does not name.
        """
        found = [run.obstacle(case) for run in self.runs if run.strategy == strategy]
        if None in found:
            return None
        refused = self.refuses.get(strategy) or self.refuses.get("others")
        why = next(iter(found), None) or (refused.why if refused else "it has no switch for it")
        return f"{why} (instead: {self.instead})" if self.instead else why

    def facts(self) -> Mapping[str, str]:
        """Every fact by its path: the value as people write it, for listings."""
        found: dict[str, str] = {}
        for index, gate in enumerate(self.all_reduce, 1):
            found[f"all_reduce.{index}"] = gate_text(gate)
        found |= {
            "all_reduce.otherwise": ALGORITHMS[LIBRARY].label,
            "launches.prefill": self.launches.prefill,
            "launches.decode": self.launches.decode,
            "step_time": f"{self.step_time.value * 1e3:g} ms",
        }
        for index, budget in enumerate(self.token_budget, 1):
            found[f"token_budget.{index}"] = f"{budget.value} tokens{_where_text(budget)}"
        if self.memory_fraction is not None:
            found["memory_fraction"] = f"{self.memory_fraction.value:g}"
        found["kv_dtype"] = self.kv_dtype.value or "as the checkpoint"
        found |= {f"runs.{run.strategy}": run.how + _where_text(run) for run in self.runs}
        found |= {f"refuses.{name}": one.why for name, one in self.refuses.items()}
        return found

    def sources(self) -> Mapping[str, str]:
        """The source of every fact that has one, by the same paths."""
        found = {f"all_reduce.{n}": gate.source for n, gate in enumerate(self.all_reduce, 1)}
        found |= {f"launches.{phase}": self.launches.source for phase in ("prefill", "decode")}
        found["step_time"] = self.step_time.source
        found |= {f"token_budget.{n}": one.source for n, one in enumerate(self.token_budget, 1)}
        if self.memory_fraction is not None:
            found["memory_fraction"] = self.memory_fraction.source
        found["kv_dtype"] = self.kv_dtype.source
        found |= {f"runs.{run.strategy}": run.source for run in self.runs}
        found |= {f"refuses.{name}": one.source for name, one in self.refuses.items()}
        return found


def gate_text(gate: Gate) -> str:
    """A gate in one line."""
    parts = [ALGORITHMS[gate.algorithm].label]
    if gate.largest:
        sizes = (f"{size / 2**20:g} MiB at {n}" for n, size in gate.largest.items())
        parts.append(f"up to {', '.join(sizes)} ranks")
    if gate.ranks:
        parts.append(f"{', '.join(map(str, gate.ranks))} ranks")
    if gate.fewest_tokens:
        parts.append(f"from {gate.fewest_tokens} tokens")
    if gate.most_tokens is not None:
        parts.append(f"up to {gate.most_tokens} tokens")
    return "; ".join(parts) + _where_text(gate)


def _where_text(where: Where) -> str:
    parts = list(where.architectures and [", ".join(where.architectures)])
    parts += list(where.links and [", ".join(where.links)])
    if where.peer_to_peer is not None:
        parts.append("peer-to-peer" if where.peer_to_peer else "no peer-to-peer")
    if where.smallest_memory is not None:
        parts.append(f"{where.smallest_memory / 2**30:g} GiB or more")
    return f" ({'; '.join(parts)})" if parts else ""
