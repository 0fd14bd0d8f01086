"""What is asked of the machine: phase, sizes, number types, and how kernels are launched."""

from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from isotune.simulator.architecture import AXES, Parallelism
from isotune.simulator.engines import (
    DEFAULT,
    ENGINES,
    EngineName,
    LaunchMode,
    engine_named,
)
from isotune.simulator.errors import InputError
from isotune.simulator.io import ActivationDtype, KvDtype, Quant, Schema, WeightDtype
from isotune.simulator.number_types import Quantised, Scheme, bytes_of, number_type, scheme
from isotune.simulator.schedule.sequences import LONGEST, MOST_BATCH, Group, Sequences, merged
from isotune.simulator.schedule.split import Slice

Phase = Literal["prefill", "decode"]
"""What a uniform batch is asked for by name."""
MOST_TP = 1024
_GROUPS = TypeAdapter(tuple[Group, ...])


class Workload(Schema):
    """One forward pass of `tp` times `cp` times `dp` GPUs.

    `tp` of them share every matrix; `cp` such groups share the tokens of every prompt, and `dp` of
    these the requests. With `ep` (1, or all GPUs) whole experts are divided over them.

    In prefill, `batch` prompts of `prompt` tokens each are processed whole. In decode, one
    token is generated for each of `batch` requests that already hold `prompt` tokens.

    Any other batch is given as groups of `sequences`, and its `phase` is `chunk` (all requests
    put the same tokens through after the same context) or `mixed`; `batch` is then the number of
    its requests and `prompt` the tokens that the longest holds in the end.

    Matrix products have the types that the checkpoint stores, unless `quant`, or a `dtype` or
    `weight_dtype` narrower than 16 bits, says otherwise: then all products of the blocks have
    those, and the LM head has none. `kv_dtype` is the type of the KV cache, None for the
    checkpoint's. `checkpoint` says how the model's checkpoint is quantised; a scenario fills it.

    `engine` names the serving engine whose pass it is. It decides how each all-reduce runs and,
    unless `runtime` is given, how kernels are launched.
    """

    phase: Literal["prefill", "decode", "chunk", "mixed"] = "prefill"
    batch: int = Field(default=1, ge=1, le=MOST_BATCH, strict=True, description="requests")
    prompt: int = Field(default=4096, ge=1, le=LONGEST, strict=True, description="tokens")
    tp: int = Field(default=8, ge=1, le=MOST_TP, strict=True, description="tensor-parallel size")
    ep: int = Field(default=1, ge=1, le=MOST_TP, strict=True, description="expert-parallel size")
    cp: int = Field(default=1, ge=1, le=MOST_TP, strict=True, description="context-parallel size")
    dp: int = Field(default=1, ge=1, le=MOST_TP, strict=True, description="data-parallel groups")
    dtype: ActivationDtype = "bf16"
    weight_dtype: WeightDtype = "bf16"
    quant: Quant | None = None
    kv_dtype: KvDtype | None = None
    checkpoint: str | None = Field(default=None, max_length=200)
    engine: EngineName = DEFAULT
    runtime: LaunchMode = "cuda_graph"
    sequences: tuple[Group, ...] = Field(default=(), max_length=4096)

    @classmethod
    def prefill(cls, batch: int, prompt: int, **fields: Any) -> Self:
        """`batch` prompts of `prompt` tokens."""
        return cls(phase="prefill", batch=batch, prompt=prompt, **fields)

    @classmethod
    def decode(cls, batch: int, context: int, **fields: Any) -> Self:
        """One token for each of `batch` requests that hold `context` tokens."""
        return cls(phase="decode", batch=batch, prompt=context, **fields)

    @classmethod
    def chunk(cls, batch: int, new_tokens: int, context: int, **fields: Any) -> Self:
        """The next `new_tokens` tokens of `batch` prompts that hold `context` tokens."""
        return cls.mixed(Sequences(count=batch, new_tokens=new_tokens, context=context), **fields)

    @classmethod
    def mixed(cls, *sequences: Sequences, **fields: Any) -> Self:
        """Groups of sequences in one pass."""
        return cls(sequences=sequences, **fields)

    @model_validator(mode="before")
    @classmethod
    def _launched_as_the_engine_does(cls, data: Any) -> Any:
        """How kernels are launched, where that is not given; checked after the phase is known."""
        if not isinstance(data, dict) or "runtime" in data or data.get("engine") not in ENGINES:
            return data
        phase = data.get("phase", "prefill")
        return data | {"runtime": engine_named(data["engine"]).launches.of(phase)}

    @model_validator(mode="before")
    @classmethod
    def _uniform_batches_by_name(cls, data: Any) -> Any:
        """Merge equal groups; one group of prompts or of decodes is that phase."""
        if not isinstance(data, dict) or not data.get("sequences"):
            return data
        try:
            groups = merged(_GROUPS.validate_python(data["sequences"]))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"sequences: {first['msg'].removeprefix('Value error, ')}") from error
        one = groups[0]
        phase = one.kind if len(groups) == 1 else "mixed"
        own = {
            "phase": phase,
            "batch": sum(group.count for group in groups),
            "prompt": one.context
            if phase == "decode"
            else max(group.context + group.new_tokens for group in groups),
        }
        for name, value in own.items():
            if data.get(name, value) != value:
                raise ValueError(
                    f"{name}: {data[name]} contradicts the sequences, which make it {value}"
                )
        return data | own | {"sequences": groups if phase in ("chunk", "mixed") else ()}

    @model_validator(mode="after")
    def _groups_only_where_needed(self) -> Self:
        if self.phase in ("chunk", "mixed") and not self.sequences:
            raise ValueError(f"phase: {self.phase} needs sequences, its groups of requests")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, plain: SerializerFunctionWrapHandler) -> Any:
        data = plain(self)
        unasked = [
            name for name in ("sequences", "quant", "kv_dtype", "checkpoint") if not data.get(name)
        ]
        unasked += [axis for axis in AXES if axis != "tp" and data.get(axis) == 1]
        if self.engine == DEFAULT:
            unasked.append("engine")
        return {name: value for name, value in data.items() if name not in unasked}

    @model_validator(mode="after")
    def _quantised_products_need_such_weights(self) -> Self:
        activations = number_type(self.dtype)
        partners = activations.partners
        if activations.quantises_activations and self.weight_dtype not in partners:
            raise ValueError(
                f"weight_dtype: products of {self.dtype} activations need "
                f"{' or '.join(partners)} weights, not {self.weight_dtype}"
            )
        return self

    @model_validator(mode="after")
    def _products_are_described_once(self) -> Self:
        if self.quant is not None and self._types_narrower:
            raise ValueError(
                f"quant: {self.quant} says the types of products; leave out dtype {self.dtype} "
                f"and weight_dtype {self.weight_dtype}"
            )
        return self

    @property
    def parallelism(self) -> Parallelism:
        """How the GPUs share model and batch."""
        return Parallelism(tp=self.tp, ep=self.ep, cp=self.cp, dp=self.dp)

    @property
    def share(self) -> Self:
        """The requests of the busiest of its `dp` groups; a plan's chunks divide them."""
        if self.dp == 1:
            return self
        groups = tuple(
            one.model_copy(update={"count": -(-one.count // self.dp)}) for one in self.sequences
        )
        batch = sum(one.count for one in groups) or -(-self.batch // self.dp)
        alone = dict.fromkeys(("ep", "cp", "dp"), 1)
        return self.model_copy(update={"batch": batch, "sequences": groups} | alone)

    @model_validator(mode="after")
    def _sizes_combine(self) -> Self:
        if self.contradiction:
            raise ValueError(self.contradiction)
        return self

    @property
    def contradiction(self) -> str:
        """Why the ranks cannot share this batch; empty where they can."""
        shortest = min(one.new_tokens for one in self.contents)
        if self.cp > 1 and (self.phase == "mixed" or shortest < 2 * self.cp):
            return (
                f"cp: {self.cp} groups of GPUs share the tokens of prompts of one length, at least "
                f"{2 * self.cp} of them; a decode has one (allowed: 1)"
            )
        return self.parallelism.contradiction

    @property
    def _types_narrower(self) -> bool:
        """Whether dtype and weight_dtype are not those of a checkpoint as it was trained."""
        wide = number_type("bf16").tensor_rate
        return any(
            number_type(name).tensor_rate != wide for name in (self.dtype, self.weight_dtype)
        )

    @property
    def as_stored(self) -> bool:
        """Whether products have the types that the checkpoint stores."""
        return self.quant is None and not self._types_narrower

    @property
    def types(self) -> str:
        """Its number types in a few words, for people."""
        parts = [self.dtype]
        if self.weight_dtype != self.dtype:
            parts.append(f"{self.weight_dtype} weights")
        if self.quant is not None:
            parts.append(f"products in {self.quant}")
        if self.checkpoint is not None:
            instead = "" if self.as_stored else "instead of "
            parts.append(f"{instead}the checkpoint's {self.checkpoint}")
        if self.kv_dtype is not None:
            parts.append(f"KV cache in {self.kv_dtype}")
        return ", ".join(parts)

    @property
    def quantised(self) -> Quantised | None:
        """How the products of all blocks are quantised where it is not `as_stored`.

        None: they have the type that activations travel in.
        """
        if self.quant is not None:
            how = scheme(self.quant)
            return None if how.plain else Quantised.of(self.quant)
        label = f"{self.weight_dtype} weights, {self.dtype} activations"
        how = Scheme(name="", dtype=self.dtype, weight_dtype=self.weight_dtype, label=label)
        return Quantised.like(how)

    @property
    def travel_dtype(self) -> str:
        """The type activations have between the matrix products."""
        return str(number_type(self.dtype).travels_as)

    @property
    def width(self) -> float:
        """Bytes of one activation between the matrix products."""
        return bytes_of(self.travel_dtype)

    @property
    def uniform(self) -> bool:
        """Whether all requests have the same new tokens and context."""
        return self.phase != "mixed"

    @property
    def contents(self) -> tuple[Sequences, ...]:
        """The groups of sequences that the batch is made of."""
        if self.sequences:
            return self.sequences
        new, context = (self.prompt, 0) if self.phase == "prefill" else (1, self.prompt)
        return (Sequences(count=self.batch, new_tokens=new, context=context),)

    @property
    def groups(self) -> tuple[Slice, ...]:
        """The groups as slices of the batch."""
        found: list[Slice] = []
        first = 0
        for one in self.contents:
            found.append(Slice(first, one.count, one.context, one.new_tokens))
            first += one.count
        return tuple(found)

    @property
    def tokens(self) -> int:
        """Tokens each request puts through the blocks in this pass.

        Raises:
            InputError: a mixed batch, whose requests differ.
        """
        return self._only.new_tokens

    @property
    def context(self) -> int:
        """Tokens each request already holds in its KV cache.

        Raises:
            InputError: a mixed batch, whose requests differ.
        """
        return self._only.context

    @property
    def _only(self) -> Sequences:
        if not self.uniform:
            raise InputError(
                f"a mixed batch ({self.text}) has requests of several lengths: it can be "
                "predicted, not searched, swept or run"
            )
        return self.contents[0]

    @property
    def text(self) -> str:
        """Its groups, as `--sequences` takes them."""
        return ",".join(map(str, self.contents))
