"""Results for people: a verdict first, then tables that fit 80 columns."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from isotune.bar import Bar
from isotune.text import count, printable
from simulator.memory import Memory, memory_of
from simulator.model import Model
from simulator.plan import Group as Blocks
from simulator.plan import Plan
from simulator.policy import TILE, Policy
from simulator.predict import SERIAL, Prediction
from simulator.program import SYNCS, Op
from simulator.scenario import Scenario
from simulator.workload import Workload

if TYPE_CHECKING:
    from tuner.policy import PolicyResult
    from tuner.robust import RobustChoice
    from tuner.search import SearchResult
    from tuner.study import Trials
    from tuner.techniques import Technique

_NAMES = {
    "serial": "serial",
    "gemm_overlap": "GEMM overlap",
    "request_overlap": "request overlap",
    "iso": "ISO",
    "spd": "SPD",
    "iso_spd": "ISO with SPD",
}
_NOTHING = "-"
_REASONS = 3
"""Reasons of failed trials shown, the most frequent first; `--json` has all."""
_SECTIONS = (
    {Op.ATTENTION: "attention", Op.HOST: "runtime.eager_step"}
    | dict.fromkeys(SYNCS, "collectives")
    | dict.fromkeys((Op.QKV, Op.ATTENTION_OUT, Op.MLP_UP, Op.MLP_DOWN, Op.LM_HEAD), "gemm")
)


class Timed(Protocol):
    """What a verdict is about: a prediction, or one read back from a file."""

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def latency_s(self) -> float: ...  # noqa: D102
    @property
    def serial_latency_s(self) -> float: ...  # noqa: D102
    @property
    def exposed_comm_s(self) -> float: ...  # noqa: D102
    @property
    def saving(self) -> float: ...  # noqa: D102
    @property
    def saving_interval(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def saving_is_certain(self) -> bool: ...  # noqa: D102


def strategy_text(name: str) -> str:
    """`gemm_overlap` as people write it."""
    return _NAMES.get(name, name)


def milliseconds(seconds: float) -> str:
    """`0.4306` as `430.6 ms`, with four digits or so."""
    value = seconds * 1e3
    digits = 3 if value < 1 else 2 if value < 100 else 1 if value < 1_000 else 0
    return f"{value:,.{digits}f} ms"


def percent(share: float) -> str:
    """`0.2301` as `23.0 %`."""
    return f"{share * 100:.1f} %"


def plan_text(plan: Plan) -> str:
    """A plan in one line."""
    first, *later = plan.all_groups
    parts = [_cut_text(first)]
    parts += [f"from block {group.first} on {_cut_text(group)}" for group in later]
    parts.append(f"{plan.comm_dtype} transfer")
    if plan.overlaps:
        held = "its default number of SMs" if plan.comm_sms is None else count(plan.comm_sms, "SM")
        parts.append(f"collective on {held}")
    if plan.dropped:
        parts.append(
            f"{count(len(plan.dropped), 'attention sync')} dropped "
            f"({'block' if len(plan.dropped) == 1 else 'blocks'} {_ranges(plan.dropped)})"
        )
    return ", ".join(parts)


def treatments_text(treatments: Mapping[int, str]) -> str:
    """How many dropped blocks are recovered in which way."""
    counts = Counter(treatments.values()).most_common()
    return ", ".join(f"{times} {name}" for name, times in counts) or "none"


def _cut_text(group: Blocks) -> str:
    unit = "requests" if group.strategy == "request_overlap" else "tokens"
    cut = f", chunks of {_sizes(group.chunks)} {unit}" if group.chunks else ""
    return _NAMES[group.strategy] + cut


def _strategies(plan: Plan) -> str:
    said = ", then ".join(dict.fromkeys(_NAMES[group.strategy] for group in plan.all_groups))
    return said[0].upper() + said[1:]


def _sizes(chunks: tuple[int, ...]) -> str:
    if len(chunks) > 8:
        return f"{min(chunks)} to {max(chunks)} ({len(chunks)} of them)"
    return " + ".join(str(size) for size in chunks)


def _ranges(blocks: tuple[int, ...]) -> str:
    """`0,1,2,7` as `0-2,7`."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def scenario_text(scenario: Scenario) -> str:
    """A scenario in one line."""
    return workload_text(scenario.model.name, scenario.hardware.name, scenario.workload)


def workload_text(model: str, hardware: str, work: Workload) -> str:
    """What is asked of which model and machine, in one line."""
    what = f"{work.prompt} tokens" if work.phase == "prefill" else f"1 token after {work.prompt}"
    weights = "" if work.weight_dtype == work.dtype else f", {work.weight_dtype} weights"
    return printable(
        f"{model} on {count(work.tp, 'GPU')} of {hardware}: {work.phase}, "
        f"batch {work.batch}, {what}, {work.dtype}{weights}"
    )


def prediction_view(prediction: Prediction) -> RenderableType:
    """One plan: verdict, times, and where the time goes."""
    return Group(*_prediction_parts(prediction))


def _prediction_parts(prediction: Prediction) -> Iterator[RenderableType]:
    yield Text(verdict(prediction), style="bold")
    yield Text(scenario_text(prediction.scenario))
    yield Text(f"plan: {plan_text(prediction.plan)}")
    serial = memory_of(prediction.scenario, SERIAL)
    if not serial.fits:
        yield Text(serial_misfit(serial))
    yield from _cautions(prediction)
    yield Text()
    yield _times_table({"this plan": prediction})
    yield Text()
    yield _ops_table({"this plan": prediction})
    yield _sources(prediction)


def _cautions(prediction: Prediction) -> Iterator[RenderableType]:
    scenario = prediction.scenario
    for text in scenario.hardware.cautions(scenario.workload.tp):
        yield Text(f"note: {text}", style="yellow")


def search_view(result: "SearchResult") -> RenderableType:
    """The answer of a search: the best plan beside the baseline, bound and techniques."""
    return Group(*_search_parts(result))


def _search_parts(result: "SearchResult") -> Iterator[RenderableType]:
    best, baseline = result.best, result.baseline
    yield Text(verdict(best), style="bold")
    yield Text(scenario_text(best.scenario))
    yield Text(f"plan: {plan_text(best.plan)}")
    if not baseline.memory.fits:
        yield Text(serial_misfit(baseline.memory))
    yield from _cautions(best)
    if result.accuracy_cost is not None:
        yield Text(
            f"predicted growth of perplexity: {result.accuracy_cost * 100:.2f} % "
            f"(budget {result.options.accuracy_budget * 100:g} %)"
        )
    yield Text()
    both = {"serial": baseline, "best plan": best}
    yield _times_table(both)
    above = best.latency_s / best.bound_s - 1
    yield Text(f"The best plan ends {percent(above)} above its lower bound max(C, M).")
    yield Text()
    yield _ops_table(both)
    yield _sources(best)
    yield Text()
    if result.techniques:
        yield _techniques_table(result.techniques)
        if any(technique.assumed for technique in result.techniques):
            yield Text("* assumed that the model bears it: never chosen unless asked for")
        yield Text()
    if len(result.options.objectives) > 1:
        yield _front_table(result)
        yield Text()
    yield Text("\n".join(_search_notes(result)))


def _search_notes(result: "SearchResult") -> Iterator[str]:
    if result.iso_asked:
        yield pays_text(result.iso_pays_from, result.iso_surely_pays_from)
    yield from trials_notes(result.trials, result.options.seed)
    if result.exact is not None and result.gap_to_exact is not None:
        alike = ", the same in all blocks" if result.options.groups > 1 else ""
        yield (
            f"Exact optimum over {result.exact.compared} plans of up to three chunks{alike}: "
            f"{milliseconds(result.exact.latency_s)} (proven to {result.exact.gap * 100:.2f} %); "
            f"Optuna's gap {result.gap_to_exact * 100:+.2f} %."
        )
    if result.trials.stopped_at_bound:
        yield "Stopped early: no plan of this space is faster."


def serial_misfit(needed: Memory) -> str:
    """That the serial pass has no room, so that its times are of a pass nobody can run."""
    return (
        f"Serial does not fit in memory: each GPU needs {needed.needed / 1e9:.1f} GB and has "
        f"{needed.capacity / 1e9:.1f} GB; its times below are predicted all the same."
    )


def pays_text(first: int | None, surely: int | None) -> str:
    """From which prompt on ISO pays, and from which on by more than the model's error."""
    if first is None:
        return "ISO pays at no prompt length up to 131072 tokens."
    shortest = " (the shortest tried)" if first == TILE else ""
    doubt = "never by more than the model's error"
    if surely is not None:
        doubt = "by more than the model's error "
        doubt += f"from about {surely} on" if surely > first else "there already"
    return f"ISO pays from prompts of about {first} tokens on{shortest}, {doubt}."


def trials_notes(trials: "Trials", seed: int) -> Iterator[str]:
    """What a study did, in lines: trials, why some have no result, and what mattered."""
    yield (
        f"Optuna: {trials.run} trials (seed {seed}, {trials.per_second:.0f}/s), "
        f"{trials.pruned} did not fit, {trials.failed} failed; "
        + (
            f"fastest {milliseconds(trials.best.seconds)}."
            if trials.best
            else "none within limits."
        )
    )
    yield from why_lines(trials)
    if trials.importances:
        shares = sorted(trials.importances.items(), key=_by_share)[:4]
        yield "What mattered: " + ", ".join(f"{name} {percent(share)}" for name, share in shares)
    if trials.interrupted:
        yield "Interrupted: this is the best of what was done."


def _by_share(item: tuple[str, float]) -> tuple[float, str]:
    name, share = item
    return -round(share, 3), name


def why_lines(trials: "Trials") -> Iterator[str]:
    """The most frequent reasons of trials without a result."""
    often = sorted(trials.why.items(), key=lambda item: -item[1])
    yield from (f"  {times} x {printable(why)}" for why, times in often[:_REASONS])
    if rest := sum(times for _, times in often[_REASONS:]):
        yield f"  {rest} x for {len(often) - _REASONS} other reasons"


def verdict(prediction: Timed) -> str:
    """One plan in one sentence, with its interval."""
    now, before = milliseconds(prediction.latency_s), milliseconds(prediction.serial_latency_s)
    if not (prediction.plan.overlaps or prediction.plan.lossy):
        return f"Serial takes {now}; {percent(_share(prediction))} of it is communication."
    change = "saves" if prediction.saving >= 0 else "loses"
    doubt = "" if prediction.saving_is_certain else ", which is less than its error"
    return (
        f"{_strategies(prediction.plan)} takes {now} instead of {before}: "
        f"{change} {percent(abs(prediction.saving))}{doubt} "
        f"(80 % interval: {_saving_interval(prediction)}){loss_text(prediction.plan)}."
    )


def loss_text(plan: Plan) -> str:
    """What a sentence about a plan must add: whether the model's numbers change, and by what."""
    if not plan.lossy:
        return ""
    parts = [count(len(plan.dropped), "dropped sync")] if plan.dropped else []
    parts += [f"{plan.comm_dtype} transfer"] if plan.comm_dtype != "bf16" else []
    return f"; the model's numbers change ({', '.join(parts)})"


def _saving_interval(prediction: Timed) -> str:
    low, high = (share * 100 for share in prediction.saving_interval)
    return f"{low:.1f} to {high:.1f} %"


def _latency_interval(prediction: Prediction) -> str:
    low, high = map(milliseconds, prediction.latency_interval_s)
    return f"{low.removesuffix(' ms')} to {high}"


def _share(prediction: Timed) -> float:
    return prediction.exposed_comm_s / prediction.latency_s


def new_table(*columns: str) -> Table:
    """A table without lines; the first column to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def _times_table(predictions: dict[str, Prediction]) -> Table:
    shown = list(predictions.values())
    table = new_table("", *predictions, *(["change"] if len(shown) == 2 else []))
    latencies = [item.latency_s for item in shown]
    table.add_row("latency", *map(milliseconds, latencies), *_change(latencies))
    table.add_row("  80 % interval", *map(_latency_interval, shown))
    for name, attribute in (
        ("compute C", "compute_s"),
        ("communication M", "comm_s"),
        ("exposed communication", "exposed_comm_s"),
        ("lost to contention", "contention_s"),
        ("lower bound max(C, M)", "bound_s"),
    ):
        values = [getattr(item, attribute) for item in shown]
        table.add_row(name, *map(milliseconds, values), *_change(values))
    for name, saving in (
        ("saving against serial", lambda item: percent(item.saving)),
        ("  80 % interval", _saving_interval),
    ):
        cells = (_NOTHING if item.run is item.serial else saving(item) for item in shown)
        table.add_row(name, *cells)
    return table


def _change(values: Sequence[float]) -> list[str]:
    """What the second of two times has over the first, where there are two."""
    if len(values) != 2:
        return []
    change = values[1] - values[0]
    if round(change * 1e6) == 0:
        return [_NOTHING]
    return [f"{'+' if change > 0 else '-'}{milliseconds(abs(change))}"]


def _ops_table(predictions: dict[str, Prediction]) -> Table:
    columns = [title for name in predictions for title in (name, "share")]
    table = new_table("where the time goes", *columns, "", "figures")
    table.columns[-2].justify = "left"
    table.columns[-1].justify = "left"
    ops = {op: None for item in predictions.values() for op in item.op_seconds}
    longest = max(max(item.op_seconds.values()) for item in predictions.values())
    for op in ops:
        cells: list[RenderableType] = []
        seconds = 0.0
        for item in predictions.values():
            seconds = item.op_seconds.get(op, 0.0)
            cells += [milliseconds(seconds), percent(seconds / (item.compute_s + item.comm_s))]
        section = _SECTIONS.get(op, "elementwise")
        table.add_row(str(op).replace("_", " "), *cells, Bar(seconds / longest), section)
    return table


def _sources(prediction: Prediction) -> Text:
    """Where the figures behind the shares come from, once per section of the profile."""
    hardware = prediction.scenario.hardware
    ops = prediction.op_seconds
    sections = dict.fromkeys(_SECTIONS.get(op, "elementwise") for op in ops)
    lines = [printable(f"{section}: {hardware.source_of(section)}") for section in sections]
    return Text("\n".join(lines), style="dim")


def _techniques_table(techniques: "list[Technique]") -> Table:
    table = new_table("technique alone", "latency", "saving", "80 % interval", "exposed", "numbers")
    for technique in techniques:
        prediction = technique.prediction
        kind = "changed*" if technique.assumed else "changed" if technique.lossy else "same"
        table.add_row(
            technique.name,
            milliseconds(prediction.latency_s),
            percent(prediction.saving),
            _saving_interval(prediction),
            milliseconds(prediction.exposed_comm_s),
            kind,
        )
    return table


def _front_table(result: "SearchResult") -> Table:
    table = new_table("Pareto set", *(name.replace("_", " ") for name in result.options.objectives))
    table.columns[0].no_wrap = False
    for item in result.trials.front:
        values = zip(result.options.objectives, item.values, strict=True)
        cells = (milliseconds(v) if name == "latency" else f"{v:.4f}" for name, v in values)
        table.add_row(plan_text(item.plan), *cells)
    return table


def models_view(models: list[Model]) -> RenderableType:
    """One line per model, and what there is to say about some of them."""
    table = new_table("name", "parameters", "blocks", "hidden", "heads", "KV heads")
    for item in models:
        table.add_row(
            item.name,
            f"{item.parameters / 1e9:.2f} B",
            str(item.num_hidden_layers),
            str(item.hidden_size),
            str(item.num_attention_heads),
            str(item.num_key_value_heads),
        )
    notes = [Text(printable(f"{item.name}: {item.note}")) for item in models if item.note]
    return Group(table, *([Text()] if notes else []), *notes)


def figure(value: object) -> str:
    """A figure of a profile as text; quantities already carry their unit."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def fields_table(fields: dict[str, object]) -> Table:
    """Names and values, one a line."""
    table = new_table("field", "value")
    table.columns[-1].no_wrap = False
    for name, value in fields.items():
        text = (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )
        table.add_row(name, Text(printable(text)))
    return table


def policy_view(policy: Policy, found: "PolicyResult", asked: int) -> RenderableType:
    """A policy: what it saves, from where ISO pays, and its buckets."""
    table = new_table("prompt tokens", "run as", "collective", "loss up to")
    for bucket in policy.buckets:
        rule = bucket.rule
        shares = " + ".join(percent(share) for share in rule.shares)
        sms = count(rule.comm_sms, "SM") if rule.comm_sms else "default SMs"
        table.add_row(
            f"{bucket.first} - {bucket.last}",
            f"ISO {shares}" if rule.shares else "serial",
            sms if rule.shares else _NOTHING,
            percent(bucket.loss),
        )
    crossover = (
        "serial at every length"
        if policy.serial_below is None
        else "ISO at every length"
        if policy.serial_below == policy.buckets[0].first
        else f"serial below {policy.serial_below} tokens"
    )
    last = policy.buckets[-1].last
    fits = f" Longer prompts than {last} tokens do not fit." if last < asked else ""
    return Group(
        Text(
            f"{count(len(policy.buckets), 'bucket')} "
            f"{'saves' if len(policy.buckets) == 1 else 'save'} "
            f"{percent(policy.expected_saving)} over these "
            f"lengths; {crossover}.",
            style="bold",
        ),
        Text(
            f"{found.solved} lengths were solved; on them the policy is at most "
            f"{percent(found.worst_loss)} above the optimum of up to three chunks.{fits}"
            + (" Interrupted: the lengths between them are not checked." * found.interrupted)
        ),
        Text(),
        table,
    )


def robust_view(choice: "RobustChoice") -> RenderableType:
    """What a robust choice rests on, and which other plan errors of the model would make best."""
    low, high = choice.saving_interval
    lines = [
        f"Robust ({choice.mode} over {choice.draws} draws of the profile's errors): "
        f"{plan_text(choice.plan)}.",
        f"It saves {percent(low)} to {percent(high)} (5-95 %), is the best plan in "
        f"{percent(choice.best_in)} of the draws and within 1 % of it in "
        f"{percent(choice.near_best_in)}.",
    ]
    others = [(plan, share) for plan, share in choice.winners if plan != choice.plan]
    lines += [f"In {percent(share)}: {plan_text(plan)}." for plan, share in others[:3]]
    return Text("\n".join(lines))
