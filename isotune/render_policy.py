"""A policy, for people."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from isotune.present.phrases import count
from isotune.simulator.files import Policy

if TYPE_CHECKING:
    from isotune.tuner.policy import PolicyResult

from isotune.present.phrases import percent, strategy_text
from isotune.render import NOTHING, new_table


def policy_view(policy: Policy, found: "PolicyResult", asked: int) -> RenderableType:
    """A policy: what it saves, from where ISO pays, and its buckets."""
    table = new_table("prompt tokens", "run as", "collective", "loss up to")
    for bucket in policy.buckets:
        rule = bucket.rule
        shares = " + ".join(percent(share) for share in rule.shares)
        sms = count(rule.comm_sms, "SM") if rule.comm_sms else "default SMs"
        table.add_row(
            f"{bucket.first} - {bucket.last}",
            f"{strategy_text(rule.strategy)} {shares}".strip(),
            sms if rule.shares else NOTHING,
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
