"""`policy.yaml`: plans by prompt length. A rule splits every length of its bucket by shares."""

from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from isotune.simulator.errors import InputError
from isotune.simulator.files.plan_file import ModelReference
from isotune.simulator.io import Schema, explain, read_yaml, validate, write_text
from isotune.simulator.schedule import (
    LONGEST,
    STRATEGIES,
    CommDtype,
    Plan,
    StrategyName,
    Workload,
    granularity,
)


class Rule(Schema):
    """How to run any prompt of a bucket: `shares` of the prompt per chunk, empty for serial."""

    strategy: StrategyName = "serial"
    shares: tuple[float, ...] = ()
    comm_dtype: CommDtype = "bf16"
    comm_sms: PositiveInt | None = None
    dropped: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        how = STRATEGIES[self.strategy]
        if not how.by_length:
            raise ValueError(f"strategy: {self.strategy} does not split by prompt length")
        if how.chunked != (len(self.shares) > 1):
            raise ValueError("shares: iso needs two or more, serial none")
        if self.shares and (min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6):
            raise ValueError("shares: must be positive and add up to 1")
        try:
            self.plan(LONGEST)
        except ValidationError as error:
            raise ValueError(explain(error)) from error
        return self

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The rule by which a serial or ISO plan was split."""
        total = sum(plan.chunks)
        return cls(
            strategy=plan.strategy,
            shares=tuple(size / total for size in plan.chunks),
            comm_dtype=plan.comm_dtype,
            comm_sms=plan.comm_sms,
            dropped=plan.dropped,
        )

    def sizes(self, prompt: int) -> tuple[int, ...]:
        """Chunk sizes of a prompt: shares rounded to whole tiles, the last chunk taking the rest.

        Fewer where the prompt is too short for every chunk to have some.
        """
        sizes: list[int] = []
        left, grain = prompt, granularity(prompt)
        for share in self.shares[:-1]:
            size = max(1, round(share * prompt / grain)) * grain
            if size >= left:
                break
            sizes.append(size)
            left -= size
        return (*sizes, left)

    def plan(self, prompt: int) -> Plan:
        """The plan for a prompt of this length."""
        common = {"comm_dtype": self.comm_dtype, "dropped": self.dropped}
        sizes = self.sizes(prompt)
        if len(sizes) < 2:
            return Plan.model_validate(common)
        parts = {"strategy": self.strategy, "chunks": sizes, "comm_sms": self.comm_sms}
        return Plan.model_validate(common | parts)


class Bucket(Schema):
    """Prompt lengths from `first` to `last` tokens, both included, and how they are run.

    `loss` is the largest relative excess over the per-length optimum that was found in it.
    """

    first: int = Field(ge=1, le=LONGEST, strict=True)
    last: int = Field(ge=1, le=LONGEST, strict=True)
    rule: Rule
    loss: float = Field(default=0.0, ge=0.0)


class Policy(Schema):
    """The content of `policy.yaml`; `workload.prompt` is the longest prompt it was made for."""

    version: Literal[1] = 1
    hardware: str = Field(min_length=1, description="bundled name, or path of a profile")
    model: ModelReference
    workload: Workload
    serial_below: int | None = Field(description="tokens below which serial wins; None: always")
    expected_saving: float = Field(description="over the distribution of prompt lengths")
    treatments: dict[int, str] = Field(
        default_factory=dict,
        description="how each dropped block is repaired: recovery steps such as bias+distil",
    )
    buckets: tuple[Bucket, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _buckets_adjoin(self) -> Self:
        for one, other in pairwise(self.buckets):
            if other.first != one.last + 1:
                raise ValueError(f"buckets: {one.last} is followed by {other.first}")
        if any(bucket.first > bucket.last for bucket in self.buckets):
            raise ValueError("buckets: first must be at most last")
        return self

    def bucket(self, prompt: int) -> Bucket:
        """The bucket of a prompt length.

        Raises:
            InputError: the policy was not made for this length.
        """
        for bucket in self.buckets:
            if bucket.first <= prompt <= bucket.last:
                return bucket
        raise InputError(
            f"policy: no bucket for {prompt} tokens (allowed: {self.buckets[0].first} to "
            f"{self.buckets[-1].last})"
        )

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            InputError: it cannot be written there.
        """
        data = self.model_dump(mode="json")
        write_text(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None))


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        InputError: unreadable or malformed file, or a field of the wrong type or range.
    """
    return validate(Policy, read_yaml(path), path)
