"""What oneshots use of a model, and the sessions in which they do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from logist.models.record import Record

Count = Annotated[int, Field(ge=0)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Usage(Record):
    """What one oneshot used, as far as the agent said. None is unknown, never zero."""

    #: US dollars.
    cost: Dollars | None = None
    #: Tokens; those that were read from a cache are part of the input.
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_tokens: Count | None = None
    #: `billed`: the agent's own figure. `estimated`: from a list of prices. `unknown`: a model was asked, and nothing
    #: is known of what it used. None: the cost is unknown, if there was any.
    cost_is: Literal["billed", "estimated", "unknown"] | None = None


#: Of an agent that asked a model and told nothing.
UNTOLD = Usage(cost_is="unknown")


class AgentSession(Record):
    """A session that an agent keeps, and that a later oneshot can go on with."""

    agent: Annotated[str, StringConstraints(max_length=500)]
    #: The program's own name for it.
    id: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^-\s][^\s]*$")]
    #: What the program has counted in it so far.
    usage: Usage = Usage()


#: The counts of a usage, by name.
Counted = Literal["cost", "input_tokens", "output_tokens", "cached_tokens"]


def used_since(before: Usage, total: Usage, cumulative: Iterable[Counted]) -> Usage:
    """What was used since `before`, where some counts are those of the whole session.

    A count that fell was begun anew by the program: then it is what was used.
    """
    changed: dict[str, object] = {}
    for name in cumulative:
        earlier, now = getattr(before, name), getattr(total, name)
        if earlier is None or now is None or _began_anew(before, total, name):
            continue
        changed[name] = round(max(now, earlier) - earlier, 9)
    return total.model_copy(update=changed)


def _began_anew(before: Usage, total: Usage, name: Counted) -> bool:
    # An estimate may be above the bill of the whole session: the tokens that it was made from tell.
    witness = "input_tokens" if name == "cost" and before.cost_is == "estimated" else name
    earlier, now = getattr(before, witness), getattr(total, witness)
    return earlier is not None and now is not None and now < earlier


def latest(before: Usage, total: Usage) -> Usage:
    """The newest count of each kind: what a program did not tell this time is as it was."""
    told = {name: value for name, value in total if value is not None}
    return before.model_copy(update=told)


def added(usages: Iterable[Usage]) -> Usage:
    """All of them together, count by count; what only some of them know is as they say."""
    parts = tuple(usages)
    told = {name: [count for each in parts if (count := getattr(each, name)) is not None] for name in get_args(Counted)}
    total: dict[str, object] = {name: sum(counts) for name, counts in told.items() if counts}
    if "cost" in total:
        total["cost_is"] = "estimated" if any(each.cost_is == "estimated" for each in parts) else "billed"
    return Usage.model_validate(total)
