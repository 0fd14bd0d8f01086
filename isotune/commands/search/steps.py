"""`isotune search --token-budget` and `--mix`: the passes that an engine forms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from isotune.commands.options import Mix, OutputOptions, option, tokens
from isotune.commands.search.options import SearchCase
from isotune.simulator.errors import InputError
from isotune.simulator.io import checked
from isotune.simulator.schedule import Sequences, Workload


@dataclass(frozen=True, kw_only=True)
class StepSearch(SearchCase, OutputOptions):
    """A search for the best split of each pass that an engine forms."""

    NAME: ClassVar = "--token-budget or --mix"
    PANEL: ClassVar = "Scenario"

    mix: Mix = None
    token_budget: Annotated[
        int | None,
        option(
            "--token-budget",
            tokens,
            "TOKENS",
            "Tokens of a pass at most: the prompt becomes steps, with the decodes of --mix.",
            show_default=False,
        ),
    ] = None

    @classmethod
    def wanted(cls, options: Mapping[str, Any]) -> bool:
        """Whether a token budget or a mixed batch is given."""
        return options["token_budget"] is not None or options["mix"] is not None

    def run(self) -> None:
        """Find and print the best plan of each step."""
        from isotune.results import Steps
        from isotune.tuner.steps import search_batch, search_steps

        self._check()
        scenario, groups = self.scenario(), self._groups()
        if self.token_budget is None:
            self.emit(Steps.of(search_batch(scenario, groups)))
            return
        prompt = 4096 if self.prompt is None else self.prompt.first
        found = search_steps(scenario, prompt, self.token_budget, groups)
        decodes = sum(group.count for group in groups)
        self.emit(Steps.of(found, prompt=prompt, decodes=decodes))

    def _check(self) -> None:
        """Refuse what a step does not take.

        Raises:
            InputError: several sizes, another phase, several prompts, or a prompt beside the mix.
        """
        if self.several:
            raise InputError("several layouts or batches do not go with --token-budget or --mix")
        if self.prompt is not None and self.prompt.several:
            raise InputError("--prompt: a range does not go with --token-budget (allowed: 32k)")
        if self.phase not in (None, "prefill") or self.batch not in (None, (1,)):
            raise InputError("--token-budget and --mix say the batch: no --phase, no --batch")
        if self.token_budget is None and self.prompt is not None:
            raise InputError("--mix is the whole batch; --prompt beside it needs --token-budget")

    def _groups(self) -> tuple[Sequences, ...]:
        """The groups of --mix.

        Raises:
            InputError: not such groups.
        """
        if self.mix is None:
            return ()
        return checked(Workload, {"sequences": tuple(self.mix.split(","))}, "--mix").contents
