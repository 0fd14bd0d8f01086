"""A scenario: this model, on this machine, asked for this."""

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from isotune.simulator.architecture import (
    Collective,
    LatentAttend,
    LatentUp,
    LmHead,
    Matmul,
    Model,
    Norm,
    Op,
    Router,
    check_divides,
    check_tp,
)
from isotune.simulator.engines import DEFAULT, Engine, engine_named
from isotune.simulator.errors import InputError
from isotune.simulator.kernels import (
    KINDS,
    AttentionParameters,
    ElementwiseParameters,
    ExpertsParameters,
    GemmParameters,
    KernelParameters,
    LatentAttentionParameters,
    Operands,
    Selected,
)
from isotune.simulator.machine import HardwareProfile
from isotune.simulator.number_types import Quantised, bytes_of, number_type
from isotune.simulator.predict.carriers import Carrier, carriers_of, site_of
from isotune.simulator.predict.experts import CHOSEN_EVENLY, CHOSEN_UNEVENLY, NOT_MEASURED
from isotune.simulator.schedule import Workload, sm_budgets

_SCALES_MATTER = 0.02
"""Share of the weights' bytes from which on other scales than the usual ones are told."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """Model, hardware and workload, checked against each other.

    Raises:
        InputError: more ranks than the machine has GPUs, nodes filled in part, or heads or blocks
            of quantised weights that do not divide by `tp`.
    """

    model: Model
    hardware: HardwareProfile
    workload: Workload

    def __post_init__(self) -> None:
        gpus, most = self.hardware.node.gpus, self.hardware.max_ranks
        ranks = self.workload.parallelism
        asked = "tp" if ranks.gpus == ranks.tp else ranks.text
        if ranks.gpus > most:
            raise InputError(
                f"{asked}: {self.hardware.name} has {most} GPUs, not {ranks.gpus} "
                f"(allowed: 1 to {most})"
            )
        if ranks.gpus > gpus and ranks.gpus % gpus:
            raise InputError(
                f"{asked}: {ranks.gpus} does not fill nodes of {gpus} GPUs "
                f"(allowed: 1 to {gpus}, or whole nodes)"
            )
        check_tp(self.model, ranks)
        self._note_the_checkpoint()
        _ = self.carriers_among(ranks.tp)  # an engine may ask what the profile does not say
        check_divides(self.model, ranks, self.quantised)

    def _note_the_checkpoint(self) -> None:
        """Keep with the workload how the checkpoint is quantised, or see that it is the same."""
        stored = None if self.model.quantisation is None else str(self.model.quantisation)
        noted = self.workload.checkpoint
        if noted not in (None, stored):
            raise InputError(
                f"workload: checkpoint: it was made for weights stored as {noted}; those of "
                f"{self.model.name} are {stored or 'not quantised'}"
            )
        if stored is not None:
            workload = self.workload.model_copy(update={"checkpoint": stored})
            object.__setattr__(self, "workload", workload)

    def __repr__(self) -> str:
        work = self.workload
        gpus = work.parallelism.gpus
        return f"<Scenario {self.model.name} on {gpus} x {self.hardware.name}, {work.text}>"

    @cached_property
    def remembered(self) -> dict[Hashable, Any]:
        """What others computed of the scenario and ask again; forgotten with it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: a copy in another process computes it anew."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def engine(self) -> Engine:
        """The serving engine whose pass it is."""
        return engine_named(self.workload.engine)

    def carriers_among(self, ranks: int) -> tuple[Carrier, ...]:
        """What carries all-reduces among so many ranks, in the order in which they come to it."""
        key = "carriers", ranks
        if key not in self.remembered:
            self.remembered[key] = carriers_of(self.engine, self.hardware, ranks)
        found: tuple[Carrier, ...] = self.remembered[key]
        return found

    @cached_property
    def norm(self) -> Norm | None:
        """The norm that an engine may fuse with the all-reduce before it."""
        blocks = self.model.blocks(self.workload.parallelism)
        ops = (op for block in blocks for op in block.ops if isinstance(op, Norm))
        return next(ops, None)

    def software_of(self, section: KernelParameters | None) -> str | None:
        """The engine's name, where a section of the profile tells kernels apart by engine."""
        sets = () if section is None else section.sets.values()
        return self.workload.engine if any(one.engine for one in sets) else None

    def quantised(self, op: Matmul) -> Quantised | None:
        """How a product is quantised: as the workload asks, else as the checkpoint is."""
        if self.workload.as_stored:
            return op.quantised
        return None if isinstance(op, LmHead | Router) else self.workload.quantised

    def operands(self, op: Matmul) -> Operands:
        """Number types of a product's operands: of activations and of weights."""
        how, travel = self.quantised(op), self.workload.travel_dtype
        if how is None:
            return Operands.of(travel)
        names = (how.scheme.dtype, how.scheme.weight_dtype)
        return Operands(
            *(travel if number_type(name).travels_as == name else name for name in names)
        )

    def weight_bytes(self, op: Op) -> float:
        """Bytes of an op's weights on one rank; biases, norms and routers are not quantised."""
        width = self.workload.width
        how = self.quantised(op) if isinstance(op, Matmul) else None
        if how is None or not isinstance(op, Matmul):
            return op.parameters * width
        return op.products * how.weight_bytes + (op.parameters - op.products) * width

    @cached_property
    def kv_dtype(self) -> str:
        """Type of the KV cache: as the workload asks, else as the checkpoint says."""
        asked = self.workload.kv_dtype or self.engine.kv_dtype.value
        quantisation = self.model.quantisation
        if asked is None and quantisation is not None and self.workload.as_stored:
            asked = quantisation.kv_cache
        if asked is None or number_type(asked).travels_as == asked:
            return self.workload.travel_dtype
        return asked

    @cached_property
    def _products(self) -> dict[Matmul, int]:
        """The products of a pass, and how many blocks have each."""
        blocks, pattern = self.model.blocks(self.workload.parallelism), self.model.pattern
        found: dict[Matmul, int] = {}
        for kind, block in enumerate(blocks):
            for op in block.ops:
                if isinstance(op, Matmul):
                    found[op] = found.get(op, 0) + pattern.count(kind)
        return found | {op: 1 for op in self.model.tail(self.workload.tp) if isinstance(op, Matmul)}

    def gemm_of(self, operands: Operands) -> Selected[GemmParameters]:
        """Parameters of matrix products of these operands."""
        if operands not in self._gemms:
            self._gemms[operands] = self.hardware.gemm.of(
                *operands, self.software_of(self.hardware.gemm)
            )
        return self._gemms[operands]

    @cached_property
    def _gemms(self) -> dict[Operands, Selected[GemmParameters]]:
        return {}

    def experts_of(self, operands: Operands) -> Selected[ExpertsParameters] | None:
        """Parameters of the experts' kernels for these operands; None where nobody measured."""
        if self.hardware.experts is None:
            return None
        if operands not in self._experts:
            software = self.software_of(self.hardware.experts)
            self._experts[operands] = self.hardware.expert_kernels(*operands, software)
        return self._experts[operands]

    @cached_property
    def _experts(self) -> dict[Operands, Selected[ExpertsParameters]]:
        return {}

    @cached_property
    def usual_operands(self) -> Operands:
        """Number types of the products that hold most weights of the blocks."""
        weights: dict[Operands, int] = {}
        for op, blocks in self._products.items():
            if not isinstance(op, LmHead):
                operands = self.operands(op)
                weights[operands] = weights.get(operands, 0) + blocks * op.products
        return max(weights, key=lambda operands: weights[operands])

    @cached_property
    def gemm(self) -> Selected[GemmParameters]:
        """Parameters of the products that hold most weights of the blocks."""
        return self.gemm_of(self.usual_operands)

    @cached_property
    def attention(self) -> Selected[AttentionParameters]:
        """Parameters of attention in the type that activations travel in, over its KV cache."""
        return self.hardware.attention.of(
            self.workload.travel_dtype,
            self.kv_dtype,
            engine=self.software_of(self.hardware.attention),
        )

    @cached_property
    def elementwise(self) -> Selected[ElementwiseParameters]:
        """Parameters of kernels that only move bytes."""
        return self.hardware.elementwise.of(
            self.workload.travel_dtype, engine=self.software_of(self.hardware.elementwise)
        )

    @cached_property
    def latent_attention(self) -> Selected[LatentAttentionParameters]:
        """Parameters of latent attention with its type of cache."""
        engine = self.software_of(self.hardware.latent_attention)
        return self.hardware.latent_kernels(self.kv_dtype, engine)

    @cached_property
    def _chosen(self) -> tuple[tuple[str, Selected[Any]], ...]:
        names = ["gemm", "attention", "elementwise"]
        blocks = self.model.blocks(self.workload.parallelism)
        if any(isinstance(op, LatentAttend) for block in blocks for op in block.ops):
            names.append("latent_attention")
        return tuple((name, getattr(self, name)) for name in names)

    def _of(self, op: Matmul) -> tuple[str, Selected[Any]]:
        """The section and the set whose figures price a product."""
        operands = self.operands(op)
        measured = None if op.experts is None else self.experts_of(operands)
        if measured is not None:
            return "experts", measured
        return "gemm", self.gemm_of(operands)

    @cached_property
    def _of_products(self) -> tuple[tuple[str, Selected[Any]], ...]:
        """What prices the products of a pass, each set once."""
        chosen = map(self._of, self._products)
        return tuple(
            {
                (name, one.path(name), one.stands_in_for): (name, one) for name, one in chosen
            }.values()
        )

    @cached_property
    def _stand_ins(self) -> tuple[str, ...]:
        found: list[tuple[str, Selected[Any]]] = list(self._of_products)
        for name, chosen in self._chosen[1:]:
            of_cache = name == "attention" and self.kv_dtype != self.workload.travel_dtype
            what = f"a KV cache in {self.kv_dtype}"
            stands_in = of_cache and chosen.stands_in_for
            found.append((name, replace(chosen, stands_in_for=what) if stands_in else chosen))
        return self.hardware.stand_ins(*found)

    def section(self, name: str) -> str:
        """Path of the profile's figures behind a section: that of the set in use."""
        chosen = dict(self._chosen).get(name)
        if name == "latent_attention" and self.hardware.latent_attention is None:
            return self.section("attention")
        return name if chosen is None else chosen.path(name)

    def section_of(self, op: Op) -> str:
        """Path of the profile's figures behind an op; of a collective, with its kind if derived."""
        if isinstance(op, Collective) and KINDS[op.kind].source:
            measured = self.hardware.collectives.measured(op.kind)
            within = "" if measured is None else f".algorithms.{measured}.kinds"
            return f"{op.section}{within}.{op.kind}"
        if isinstance(op, Matmul):
            section, chosen = self._of(op)
            return chosen.path(section)
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
        head, _, kind = section.rpartition(".")
        derived = KINDS[kind].source if kind in KINDS and head == "collectives" else ""
        return "; ".join(filter(None, (derived, known)))

    def class_errors(self) -> dict[str, float]:
        """Relative standard error by operation class, those of the sets in use included."""
        return self._class_errors

    @cached_property
    def _class_errors(self) -> dict[str, float]:
        renamed = {"latent_attention": "attention"}
        errors = self.hardware.class_errors(
            *((renamed.get(name, name), chosen) for name, chosen in self._chosen)
        )
        # Experts share the class of products, whose error is that of the less certain of both.
        of_experts = [
            self.hardware.class_errors(("gemm", chosen))["gemm"]
            for name, chosen in self._of_products
            if name == "experts"
        ]
        carried = [one.lines.error for one in self._usual if one.lines.error is not None]
        return errors | {
            "gemm": max([errors["gemm"], *of_experts]),
            "collectives": max([errors["collectives"], *carried]),
        }

    def cautions(self) -> tuple[str, ...]:
        """What a reader must know before trusting a prediction."""
        return self._cautions

    @cached_property
    def _cautions(self) -> tuple[str, ...]:
        hardware = self.hardware
        ranks = self.workload.parallelism
        quantisation = self.model.quantisation
        note = quantisation.note if quantisation and self.workload.as_stored else ""
        return (
            *hardware.cautions(ranks.gpus),
            *self._stand_ins,
            *self._of_the_engine(),
            *filter(None, (note,)),
            *self.model.left_out(ranks),
            *self._assumed_of_experts(),
            *self._assumed_of_weights(),
            *self._of_layout(),
            *self._beyond_the_model(),
        )

    def _assumed_of_weights(self) -> tuple[str, ...]:
        """How the time of quantised products differs from how their weights are stored."""
        quantised = [(op, how) for op in self._products if (how := self.quantised(op))]
        usual = {how: Quantised.like(how.scheme) for _, how in quantised}
        found = [
            f"{how.scheme.weight_dtype} weights with {_scales(how)} take {how.weight_bytes:.3f} "
            f"bytes each in memory; their products are priced with {_scales(other)}, "
            f"{other.weight_bytes:.3f} bytes."
            for how, other in usual.items()
            if abs(how.weight_bytes / other.weight_bytes - 1.0) > _SCALES_MATTER
        ]
        if any(isinstance(op, LatentUp) for op, _ in quantised):
            found.append(
                "kv_b of latent attention is priced in its stored type; engines may keep it in 16 "
                "bits for decode, where it is absorbed."
            )
        return tuple(found)

    def _assumed_of_experts(self) -> tuple[str, ...]:
        """What is assumed about the cost of routed experts, if the model has any."""
        if not any(op.experts for op in self._products):
            return ()
        if self.hardware.experts is None:
            return (NOT_MEASURED,)
        return (CHOSEN_UNEVENLY if self.workload.parallelism.ep > 1 else CHOSEN_EVENLY,)

    def _of_layout(self) -> tuple[str, ...]:
        """What is assumed about ranks that do not all have the same tokens."""
        ranks = self.workload.parallelism
        found = []
        if ranks.dispatches and self.model.num_experts > 1:
            measured = self.hardware.collectives.measured("all_to_all")
            whose = f"those of {measured}" if measured else "derived from the all-reduce"
            found.append(
                "as many tokens are assumed to travel between any two ranks; all-to-alls are "
                f"{whose}, not of a kernel that dispatches tokens."
            )
        if ranks.cp > 1:
            found.append(
                "ranks that share a prompt are assumed to gather all its keys and values before "
                "they attend, and to keep them; a ring of them is not modelled."
            )
        if ranks.dp > 1 and self.workload.batch % ranks.dp:
            found.append(
                f"{self.workload.batch} requests do not divide by dp {ranks.dp}: the times are "
                "those of the busiest group."
            )
        return tuple(found)

    def _of_the_engine(self) -> tuple[str, ...]:
        """What is derived or assumed of the engine, and what its limits make of the pass."""
        engine = self.engine
        if engine.name == DEFAULT:
            return ()
        assumed = "; ".join(engine.assumed)
        found = [f"{engine.title} {engine.version} as it is set up by default: {assumed}."]
        derived = {one.label: one.lines.derived for one in self._usual if one.lines.derived}
        where = self.hardware.name
        found += [f"all-reduce {label} of {where} {how}." for label, how in derived.items()]
        budget = engine.budget(site_of(self.hardware))
        rows = self._rows
        if budget is not None and rows > budget.value:
            found.append(
                f"{engine.title} runs at most {budget.value:,} tokens a step by default: these "
                f"{rows:,} tokens are one step only with a budget of so many."
            )
        return tuple(found)

    @property
    def _rows(self) -> int:
        """Tokens that the pass puts through the blocks."""
        return sum(group.count * group.new_tokens for group in self.workload.contents)

    @property
    def _usual(self) -> tuple[Carrier, ...]:
        """What carries the all-reduces of the pass in one piece, and of its halves."""
        found = []
        for rows in {self._rows, -(-self._rows // 2)}:
            size = np.asarray(rows * self.model.hidden_size * bytes_of("bf16"))
            among = self.carriers_among(self.workload.tp)
            takers = (one for one in among if one.takes(size, np.asarray(rows)))
            found.append(next(takers))
        return tuple(found)

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
            InputError: a `tp` that the machine or the model does not allow, or ranks that cannot
                share the batch.
        """
        if self.workload.sequences and {"phase", "batch", "prompt"} & changes.keys():
            raise InputError(
                f"a mixed batch ({self.workload.text}) has no other {', '.join(changes)}"
            )
        workload = self.workload.model_copy(update=changes)
        if workload.contradiction:
            raise InputError(f"workload: {workload.contradiction}")
        return replace(self, workload=workload)

    def with_model(self, **changes: Any) -> Self:
        """The same with another number of blocks, ..."""
        return replace(self, model=replace(self.model, **changes))

    def with_hardware(self, **changes: Any) -> Self:
        """The same with another GPU, link, ..."""
        return replace(self, hardware=self.hardware.model_copy(update=changes))


def _scales(how: Quantised) -> str:
    """How weights share scales, in words."""
    return f"a scale per {how.rows} rows" if how.rows > 1 else "a scale per column"
