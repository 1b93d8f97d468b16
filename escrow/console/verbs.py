"""What treasurers do, each by a page that asks first: translate, one verb, translate."""

from __future__ import annotations

from functools import partial, wraps
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import pauses
from accounts.edge.fields import units_to_text
from accounts.errors import TryLater
from accounts.models import Pause
from escrow import (
    guard,
    income,
    internal_moves,
    platform_payouts,
    recognition,
    returns,
    shortfalls,
    treasury,
    withdrawals,
)
from escrow.chain import addresses, network
from escrow.console import asking, forms, words
from escrow.console.asking import Question
from escrow.models import Deposit, Outflow, Treasury, Withdrawal


def _for(permission: str) -> Any:
    """Let those in who see the treasury and have this permission."""

    def decorated(view: Any) -> Any:
        @wraps(view)
        @never_cache
        @require_http_methods(["GET", "POST"])
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.has_perms(["escrow.view_treasury", permission]):
                raise PermissionDenied
            try:
                return view(request, *args, **kwargs)
            except TryLater as refusal:  # there is no treasury, or no chain, to ask anything about
                messages.error(request, refusal.detail)
                return asking.to_treasury()

        return guarded

    return decorated


# --- payouts --------------------------------------------------------------------------------------------------------
@_for("escrow.approve_withdrawal")
def approve(request: Any, withdrawal_id: UUID) -> HttpResponse:
    """Let a held payout go."""
    payout = _payout(withdrawal_id)
    needed, given = payout.approvals_needed, len(payout.approvals.all())
    last = given + 1 >= needed
    return asking.ask(
        request,
        Question(
            title=f"Approve a payout of {_usdc(payout.amount_units)}",
            button="Approve",
            effect="The payout goes on its way: nobody has to agree after you, and nobody can take it back once it is"
            " signed."
            if last
            else f"You are number {given + 1} of {needed}: another treasurer has to agree before it goes.",
            facts=_facts_of(payout),
            form=forms.Sure.asked,
            act=lambda said: withdrawals.approve(
                withdrawal_id, by=request.user, revision=said["revision"], reason=said["reason"]
            ),
            done=f"You approved the payout of {_usdc(payout.amount_units)}.",
            revision=payout.revision,
        ),
    )


@_for("escrow.approve_withdrawal")
def reject(request: Any, withdrawal_id: UUID) -> HttpResponse:
    """Refuse a held payout."""
    payout = _payout(withdrawal_id)
    return asking.ask(
        request,
        Question(
            title=f"Reject a payout of {_usdc(payout.amount_units)}",
            button="Reject",
            effect="The payout ends here. What was set aside for it, fee included, is back at once, and whoever asked"
            " is told.",
            facts=_facts_of(payout),
            form=forms.Sure.asked,
            act=lambda said: withdrawals.reject(
                withdrawal_id, by=request.user, revision=said["revision"], reason=said["reason"]
            ),
            done=f"You rejected the payout of {_usdc(payout.amount_units)}; the money is back.",
            revision=payout.revision,
        ),
    )


@_for("escrow.approve_withdrawal")
def platform(request: Any) -> HttpResponse:
    """Ask for a payout of the platform's income."""
    return asking.ask(
        request,
        Question(
            title="Pay out platform income",
            button="Ask for it",
            effect="The amount is set aside now and waits for another treasurer; for two when it is large.",
            facts=[("Fees and penalties earned", _usdc(income.units()))],
            form=forms.PlatformPayout.asked,
            act=lambda said: platform_payouts.request(
                by=request.user, amount_units=said["amount"], address=said["address"], note=said["reason"]
            ),
            done="The payout is asked for: another treasurer has to approve it.",
            typed=lambda said: [
                ("Amount", _usdc(said["amount"])),
                ("To", addresses.to_text(said["address"])),
            ],
        ),
    )


@_for("escrow.approve_withdrawal")
def cover(request: Any) -> HttpResponse:
    """Make a recorded loss good with income."""
    return asking.ask(
        request,
        Question(
            title="Cover a shortfall with income",
            button="Cover it",
            effect="Fees and penalties make the loss good. No USDC moves on the chain.",
            facts=[
                ("Lost for good", _usdc(shortfalls.coverable_units())),
                ("Fees and penalties earned", _usdc(income.units())),
            ],
            form=forms.Amounted.asked,
            act=lambda said: shortfalls.cover(amount_units=said["amount"], by=request.user, note=said["reason"]),
            done="The loss is covered, as far as you said.",
            typed=lambda said: [("Amount", _usdc(said["amount"]))],
        ),
    )


@_for("escrow.approve_withdrawal")
def send_back(request: Any, deposit_id: UUID) -> HttpResponse:
    """Ask for the return of a deposit that is nobody's."""
    deposit = Deposit.objects.filter(pk=deposit_id).first()
    if deposit is None:
        raise Http404("There is no such deposit.")
    return asking.ask(
        request,
        Question(
            title=f"Return a deposit of {_usdc(deposit.amount_units)}",
            button="Ask for its return",
            effect="It leaves suspense and waits for another treasurer; then it is paid to the address that sent it."
            " Exchanges often send from addresses that cannot receive: make sure that this one can.",
            facts=[
                ("Amount", _usdc(deposit.amount_units)),
                ("To its sender", addresses.to_text(deposit.sender)),
                ("Came to", addresses.to_text(deposit.receiver)),
                ("Transaction", f"0x{deposit.tx_hash.hex()}"),
                ("Block", str(deposit.block_number)),
            ],
            form=forms.Sure.asked,
            act=lambda said: returns.request(deposit_id, by=request.user, note=said["reason"]),
            done="The return is asked for: another treasurer has to approve it.",
        ),
    )


@_for("escrow.approve_withdrawal")
def call_off(request: Any, withdrawal_id: UUID) -> HttpResponse:
    """Call off what was asked for here."""
    payout = _payout(withdrawal_id)
    return asking.ask(
        request,
        Question(
            title=f"Call off a payout of {_usdc(payout.amount_units)}",
            button="Call it off",
            effect="It ends here, and what was set aside for it is back where it came from.",
            facts=_facts_of(payout),
            form=forms.Sure.asked,
            act=lambda said: withdrawals.call_off(withdrawal_id, by=request.user, reason=said["reason"]),
            done=f"You called off the payout of {_usdc(payout.amount_units)}.",
            revision=payout.revision,
        ),
    )


# --- moves between addresses of ours --------------------------------------------------------------------------------
@_for("escrow.approve_withdrawal")
def to_cold(request: Any) -> HttpResponse:
    """Move USDC to the cold address."""
    paying = treasury.current(network.current().chain_id)
    return asking.ask(
        request,
        Question(
            title="Move USDC to cold storage",
            button="Move it",
            effect="The treasury signs a payment to the cold address. It stays custody, and comes back only by the"
            " people who hold its key.",
            facts=[
                ("From", addresses.to_text(paying.address)),
                ("To the cold address", settings.TREASURY_COLD_ADDRESS or "none is set up"),
                ("Open payouts need", _usdc(internal_moves.owed_units(paying))),
                ("Stays for payouts to come", _usdc(settings.TREASURY_HOT_CEILING_UNITS)),
            ],
            form=forms.Amounted.asked,
            act=lambda said: internal_moves.to_cold(amount_units=said["amount"], by=request.user, note=said["reason"]),
            done="The move is under way.",
            typed=lambda said: [("Amount", _usdc(said["amount"])), ("To", settings.TREASURY_COLD_ADDRESS)],
            asks_the_chain=True,
        ),
    )


@_for("escrow.approve_withdrawal")
def drain(request: Any, treasury_id: int) -> HttpResponse:
    """Move all that an earlier treasury has to the one that signs."""
    old = Treasury.objects.filter(pk=treasury_id).first()
    if old is None:
        raise Http404("There is no such treasury.")
    return asking.ask(
        request,
        Question(
            title="Empty an earlier treasury",
            button="Empty it",
            effect="It signs one payment of all it has to the treasury that signs now.",
            facts=[
                ("From", addresses.to_text(old.address)),
                ("To", addresses.to_text(treasury.current(old.chain_id).address)),
            ],
            form=forms.Sure.asked,
            act=lambda said: internal_moves.drain(old, by=request.user, note=said["reason"]),
            done="The move is under way.",
            asks_the_chain=True,
        ),
    )


# --- what left and nothing explains ---------------------------------------------------------------------------------
@_for("escrow.approve_withdrawal")
def attribute(request: Any, outflow_id: UUID) -> HttpResponse:
    """Say whose payout a transfer was."""
    outflow = _outflow(outflow_id)
    agents = recognition.agents_of(outflow)
    return asking.ask(
        request,
        Question(
            title=f"Say whose payout of {_usdc(outflow.amount_units)} this was",
            button="Attribute it",
            effect="It is posted as a payout of that agent: the amount leaves its balance, and what it has not got any"
            " more becomes a shortfall."
            if agents
            else "No agent has, or had, the receiver in its address book: it can only be written off.",
            facts=_facts_of_outflow(outflow),
            form=partial(forms.Attribution.among, agents),
            act=lambda said: recognition.attribute(
                outflow_id, agent_id=UUID(said["agent"]), by=request.user, reason=said["reason"]
            ),
            done=f"The transfer of {_usdc(outflow.amount_units)} is explained.",
            typed=lambda said: [("Agent", next(one.handle for one in agents if str(one.pk) == said["agent"]))],
        ),
    )


@_for("escrow.approve_withdrawal")
def write_off(request: Any, outflow_id: UUID) -> HttpResponse:
    """Post a transfer as a loss."""
    outflow = _outflow(outflow_id)
    return asking.ask(
        request,
        Question(
            title=f"Write off {_usdc(outflow.amount_units)}",
            button="Write it off",
            effect="It is posted as a loss of the platform: custody goes down, the shortfall up. This is never undone.",
            facts=_facts_of_outflow(outflow),
            form=forms.Sure.asked,
            act=lambda said: recognition.write_off(outflow_id, by=request.user, reason=said["reason"]),
            done=f"{_usdc(outflow.amount_units)} are written off.",
        ),
    )


# --- switches -------------------------------------------------------------------------------------------------------
@_for("accounts.set_pause")
def pause(request: Any, flag: str) -> HttpResponse:
    """Stop new business of a kind."""
    return _turn(request, flag, "Pause", lambda said: pauses.pause(flag, by=request.user, reason=said["reason"]))


@_for("accounts.set_pause")
def resume(request: Any, flag: str) -> HttpResponse:
    """Let new business of a kind go on."""
    return _turn(request, flag, "Resume", lambda said: guard.resume(flag, by=request.user, reason=said["reason"]))


def _turn(request: Any, flag: str, button: str, act: Any) -> HttpResponse:
    if flag not in words.FLAGS:
        raise Http404("There is no such switch.")
    name, meaning = words.FLAGS[flag]
    row = Pause.objects.select_related("by").filter(pk=flag).first()
    facts = [("Switch", name), ("Now", "paused" if row and row.paused else "open")]
    if row and row.revision:
        facts += [
            ("Since", row.changed_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
            ("By", row.by.username if row.by else f"itself: {words.alert(row.cause)}"),
            ("Reason", row.reason),
        ]

    def turn(said: dict[str, Any]) -> None:
        pauses.require_revision(flag, said["revision"])
        act(said)

    return asking.ask(
        request,
        Question(
            title=f"{button} {name.lower()}",
            button=button,
            effect=f"While {name.lower()} are paused, {meaning}."
            if button == "Pause"
            else "From now on all of it goes on as ever.",
            facts=facts,
            form=forms.Sure.asked,
            act=turn,
            done=f"{name} are {'paused' if button == 'Pause' else 'open again'}.",
            revision=row.revision if row else 0,
        ),
    )


def _payout(withdrawal_id: UUID) -> Withdrawal:
    rows = Withdrawal.objects.select_related("agent", "entry", "asked_by").prefetch_related("approvals__by")
    payout = rows.filter(pk=withdrawal_id).first()
    if payout is None:
        raise Http404("There is no such payout.")
    return payout


def _outflow(outflow_id: UUID) -> Outflow:
    outflow = Outflow.objects.filter(pk=outflow_id).first()
    if outflow is None:
        raise Http404("There is no such transfer.")
    return outflow


def _facts_of_outflow(outflow: Outflow) -> list[tuple[str, str]]:
    return [
        ("Amount", _usdc(outflow.amount_units)),
        ("From", addresses.to_text(outflow.sender)),
        ("To", addresses.to_text(outflow.receiver)),
        ("Transaction", f"0x{outflow.tx_hash.hex()}, log {outflow.log_index}"),
        ("Block", str(outflow.block_number)),
        ("By an authorization", f"0x{outflow.nonce.hex()}" if outflow.nonce else "no: somebody called the token"),
        ("Known to", ", ".join(agent.handle for agent in recognition.agents_of(outflow)) or "no agent"),
        ("Explained", outflow.get_explanation_display() if outflow.explanation else "no"),
    ]


def _facts_of(payout: Withdrawal) -> list[tuple[str, str]]:
    """What somebody should have read before saying yes or no."""
    facts = [("Amount", _usdc(payout.amount_units)), ("To", addresses.to_text(payout.address))]
    if payout.agent:
        facts.append(("Agent", f"{payout.agent.handle}: {payout.agent.display_name}"))
    else:
        facts.append(("What it is", words.OWNERS[payout.owner]))
    if payout.entry:
        facts.append(("Label of the address", payout.entry.label or "none"))
        facts.append(("Address known since", payout.entry.created_at.strftime("%Y-%m-%d %H:%M UTC")))
    if payout.asked_by:
        facts.append(("Asked for by", f"{payout.asked_by.username}: {payout.note}"))
    earlier = Withdrawal.objects.filter(agent=payout.agent, address=payout.address, state=Withdrawal.State.SETTLED)
    approvals = [
        f"{one.by.username}: {one.reason}" if one.reason else one.by.username for one in payout.approvals.all()
    ]
    facts += [
        ("Paid to this address before", f"{earlier.count()} times"),
        ("Held because", words.held_for(payout.held_for)),
        ("State", payout.state),
        ("Asked", payout.requested_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("Has to be approved by", payout.approve_by.strftime("%Y-%m-%d %H:%M UTC") if payout.approve_by else "–"),
        ("Approvals", f"{len(approvals)} of {payout.approvals_needed}" + "".join(f"\n{one}" for one in approvals)),
    ]
    return facts


def _usdc(units: int) -> str:
    return f"{units_to_text(units)} USDC"
