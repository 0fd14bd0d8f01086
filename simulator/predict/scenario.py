"""A scenario: this model, on this machine, asked for this."""

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

from isotune.simulator.architecture import Collective, LatentAttend, Model, Op, check_tp
from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    KINDS,
    AttentionParameters,
    ElementwiseParameters,
    GemmParameters,
    LatentAttentionParameters,
    Selected,
)
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.schedule import Workload, sm_budgets


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """Model, hardware and workload, checked against each other.

    `engine` names the software whose kernel parameters are used where the profile has them.

    Raises:
        InputError: more ranks than the machine has GPUs, nodes filled in part, or heads that do
            not divide by `tp`.
    """

    model: Model
    hardware: HardwareProfile
    workload: Workload
    engine: str | None = None

    def __post_init__(self) -> None:
        tp, gpus, most = self.workload.tp, self.hardware.node.gpus, self.hardware.max_ranks
        if tp > most:
            raise InputError(
                f"tp: {self.hardware.name} has {most} GPUs, not {tp} (allowed: 1 to {most})"
            )
        if tp > gpus and tp % gpus:
            raise InputError(
                f"tp: {tp} does not fill nodes of {gpus} GPUs "
                f"(allowed: 1 to {gpus}, or whole nodes)"
            )
        check_tp(self.model, tp)

    def __repr__(self) -> str:
        work = self.workload
        return f"<Scenario {self.model.name} on {work.tp} x {self.hardware.name}, {work.text}>"

    @cached_property
    def remembered(self) -> dict[Hashable, Any]:
        """What others computed of the scenario and ask again; forgotten with it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: a copy in another process computes it anew."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def gemm(self) -> Selected[GemmParameters]:
        """Parameters of matrix products of the workload's number types."""
        return self.hardware.gemm.of(self.workload.dtype, self.workload.weight_dtype, self.engine)

    @cached_property
    def attention(self) -> Selected[AttentionParameters]:
        """Parameters of attention in the type that activations travel in."""
        return self.hardware.attention.of(self.workload.travel_dtype, engine=self.engine)

    @cached_property
    def elementwise(self) -> Selected[ElementwiseParameters]:
        """Parameters of kernels that only move bytes."""
        return self.hardware.elementwise.of(self.workload.travel_dtype, engine=self.engine)

    @cached_property
    def latent_attention(self) -> Selected[LatentAttentionParameters]:
        """Parameters of latent attention with a cache of the type that activations travel in."""
        return self.hardware.latent_kernels(self.workload.travel_dtype, self.engine)

    @cached_property
    def _chosen(self) -> tuple[tuple[str, Selected[Any]], ...]:
        names = ["gemm", "attention", "elementwise"]
        blocks = self.model.blocks(self.workload.tp)
        if any(isinstance(op, LatentAttend) for block in blocks for op in block.ops):
            names.append("latent_attention")
        return tuple((name, getattr(self, name)) for name in names)

    def section(self, name: str) -> str:
        """Path of the profile's figures behind a section: that of the set in use."""
        chosen = dict(self._chosen).get(name)
        if name == "latent_attention" and self.hardware.latent_attention is None:
            return self.section("attention")
        return name if chosen is None else chosen.path(name)

    def section_of(self, op: Op) -> str:
        """Path of the profile's figures behind an op; of a collective, with its kind if derived."""
        if isinstance(op, Collective) and KINDS[op.kind].source:
            return f"{op.section}.{op.kind}"
        return self.section(op.section)

    def source_of(self, section: str) -> str:
        """Where the figures at a path of `section_of` come from."""
        if section not in self._sources:
            self._sources[section] = self._source_of(section)
        return self._sources[section]

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {}

    def _source_of(self, section: str) -> str:
        known = self.hardware.source_of(section)
        kind = section.rpartition(".")[2]
        derived = KINDS[kind].source if kind in KINDS else ""
        return "; ".join(filter(None, (derived, known)))

    def class_errors(self) -> dict[str, float]:
        """Relative standard error by operation class, those of the sets in use included."""
        return self._class_errors

    @cached_property
    def _class_errors(self) -> dict[str, float]:
        renamed = {"latent_attention": "attention"}
        return self.hardware.class_errors(
            *((renamed.get(name, name), chosen) for name, chosen in self._chosen)
        )

    def cautions(self) -> tuple[str, ...]:
        """What a reader must know before trusting a prediction."""
        return self._cautions

    @cached_property
    def _cautions(self) -> tuple[str, ...]:
        hardware = self.hardware
        tp = self.workload.tp
        stand_ins = hardware.stand_ins(*self._chosen)
        return (
            *hardware.cautions(tp),
            *stand_ins,
            *self.model.left_out(tp),
            *self._beyond_the_model(),
        )

    def _beyond_the_model(self) -> tuple[str, ...]:
        """What is asked of the model that its config does not provide for."""
        model, workload = self.model, self.workload
        longest = max(group.context + group.new_tokens for group in workload.contents)
        found = []
        if longest > model.max_position_embeddings:
            found.append(
                f"{longest:,} tokens are more than the {model.max_position_embeddings:,} positions "
                f"of {model.name} (max_position_embeddings)."
            )
        if model.dtype == "float32" and workload.width < 4:
            found.append(
                f"the config of {model.name} asks for float32; it is priced in "
                f"{workload.travel_dtype}."
            )
        return tuple(found)

    @property
    def sm_budgets(self) -> tuple[int | None, ...]:
        """SM budgets of a collective worth telling apart; None is the library's choice."""
        return sm_budgets(max(one.sms for one in self.hardware.collectives.chain()))

    def with_workload(self, **changes: Any) -> Self:
        """The same with another prompt, batch, tp, ...

        Raises:
            InputError: a `tp` that the machine or the model does not allow.
        """
        if self.workload.sequences and {"phase", "batch", "prompt"} & changes.keys():
            raise InputError(
                f"a mixed batch ({self.workload.text}) has no other {', '.join(changes)}"
            )
        return replace(self, workload=self.workload.model_copy(update=changes))

    def with_model(self, **changes: Any) -> Self:
        """The same with another number of blocks, ..."""
        return replace(self, model=replace(self.model, **changes))

    def with_hardware(self, **changes: Any) -> Self:
        """The same with another GPU, link, ..."""
        return replace(self, hardware=self.hardware.model_copy(update=changes))
