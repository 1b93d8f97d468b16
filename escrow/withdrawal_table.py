"""
What may become of a withdrawal: the one place that compares its states (jobs-and-money.md, section 4).

Up to `authorized` the database decides; from then on only the chain does, because a signature may be out.
"""

from enum import StrEnum
from typing import NamedTuple

from accounts.errors import DomainError
from escrow.models import Withdrawal

State = Withdrawal.State


class Action(StrEnum):
    HOLD = "hold"
    APPROVE = "approve"
    REJECT = "reject"
    COOL = "cool"
    RELEASE = "release"
    CANCEL = "cancel"
    AUTHORIZE = "authorize"
    BROADCAST = "broadcast"
    SETTLE = "settle"
    LAPSE = "lapse"
    REFUND = "refund"
    RECOGNISE = "recognise"


class Rule(NamedTuple):
    before: frozenset[str]
    after: str


# action                  from                                            to
_ROWS = (
    (Action.HOLD,         {State.REQUESTED, State.COOLING},               State.HELD),
    (Action.COOL,         {State.REQUESTED},                              State.COOLING),
    (Action.APPROVE,      {State.HELD},                                   State.REQUESTED),  # the last one needed
    (Action.REJECT,       {State.HELD},                                   State.REJECTED),
    (Action.RELEASE,      {State.COOLING},                                State.REQUESTED),
    (Action.CANCEL,       {State.REQUESTED, State.HELD, State.COOLING},   State.CANCELLED),
    (Action.AUTHORIZE,    {State.REQUESTED},                              State.AUTHORIZED),
    (Action.BROADCAST,    {State.AUTHORIZED},                             State.BROADCAST),
    (Action.LAPSE,        {State.AUTHORIZED, State.BROADCAST},            State.LAPSED),
    (Action.SETTLE,       {State.AUTHORIZED, State.BROADCAST, State.LAPSED}, State.SETTLED),
    (Action.REFUND,       {State.AUTHORIZED, State.BROADCAST, State.LAPSED}, State.REFUNDED),
    # found paid on the chain, by a signature this database forgot: whatever it was waiting for
    (Action.RECOGNISE,    {State.REQUESTED, State.HELD, State.COOLING},   State.RECOGNISED),
)  # fmt: skip
RULES = {action: Rule(frozenset(before), after) for action, before, after in _ROWS}

UNPAID = RULES[Action.SETTLE].before  # signed or about to be: only the chain knows the end
WANTED = frozenset({State.AUTHORIZED, State.BROADCAST})  # worth sending
CANCELLABLE = RULES[Action.CANCEL].before


class TransitionNotAllowed(DomainError):
    code = "transition_not_allowed"
    title = "The withdrawal is past that"


def advance(withdrawal: Withdrawal, action: Action) -> list[str]:
    """
    Change the state of a locked withdrawal as the table says; answers the fields to save.

    :raises TransitionNotAllowed: if the table has no such row
    """
    rule = RULES[action]
    if withdrawal.state not in rule.before:
        raise TransitionNotAllowed(
            f"A withdrawal that is {withdrawal.state} cannot be changed that way.", state=withdrawal.state
        )
    withdrawal.state = rule.after
    withdrawal.revision += 1
    return ["state", "revision"]
