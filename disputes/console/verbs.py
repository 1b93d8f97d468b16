"""What moderators do to a case beside ruling, each by a page that asks first: translate, one verb, translate."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.models import User
from disputes import appeals, approvals, assignment, candidates, conflicts, decisions, lifecycle, questions, rulings
from disputes.console import asking, casefile, forms
from disputes.console.asking import Question
from disputes.console.pages import for_case_staff
from disputes.console.timeline import verdict
from disputes.models import Appeal, Dispute, Party, Ruling
from disputes.templatetags import console as named
from disputes.templatetags.console import duration, moment


def _asks(view: Any) -> Any:
    return for_case_staff(require_http_methods(["GET", "POST"])(view))


# --- who has it -----------------------------------------------------------------------------------------------------
@_asks
def take_next(request: Any) -> HttpResponse:
    """Take whichever case needs somebody most."""
    return asking.ask(
        request,
        Question(
            title="Take the next case",
            button="Take it",
            effect="You get the case whose time is over first, of those that nobody has and that you are fit for. From"
            " then on it waits for you.",
            facts=[("You have", f"{_open_cases_of(request.user)} open cases")],
            form=asking.Once.asked,
            act=lambda said: assignment.take_next(moderator=request.user),
            done="The case is yours.",
            crumbs=(_cases(),),
        ),
        back=reverse("admin:cases"),
        then=_page_of,
    )


@_asks
def take(request: Any, case_id: UUID) -> HttpResponse:
    """Make a case one's own."""
    dispute = casefile.find(case_id)
    return _about(
        request,
        dispute,
        title="Take",
        button="Take it",
        effect="The case is yours: you read it, ask the parties if something is missing, and decide it in time. You can"
        " give it on or step back later.",
        form=asking.Once.asked,
        act=lambda said: assignment.take(case_id, moderator=request.user),
        done="The case is yours.",
    )


@_asks
def recuse(request: Any, case_id: UUID) -> HttpResponse:
    """Step back from a case."""
    dispute = casefile.find(case_id)
    return _about(
        request,
        dispute,
        title="Step back from",
        button="Step back",
        effect="The case goes to the next colleague who is fit for it, and never comes back to you. The parties are not"
        " told; the clock goes on.",
        form=forms.Recusal.asked,
        act=lambda said: assignment.recuse(case_id, moderator=request.user, reason=said["reason"]),
        done="You stepped back from the case.",
    )


@_asks
def reassign(request: Any, case_id: UUID) -> HttpResponse:
    """Give a case to a colleague."""
    dispute = casefile.find(case_id)
    people = _fit_for(dispute)
    return _about(
        request,
        dispute,
        title="Give to a colleague:",
        button="Give it",
        effect="The case is theirs from then on. The clock goes on: they have what is left of the time. Only colleagues"
        " are offered who may decide this case and have no stake in it.",
        form=lambda data=None, **initial: forms.Handover.among(people, data, **initial),
        act=lambda said: assignment.reassign(
            case_id, by=request.user, to=User.objects.get(pk=said["to"]), reason=said["reason"]
        ),
        done=lambda given: f"You gave the case to {given.assigned_to}.",
    )


# --- asking the parties ---------------------------------------------------------------------------------------------
@_asks
def question(request: Any, case_id: UUID) -> HttpResponse:
    """Ask a side something."""
    dispute = casefile.find(case_id)
    asked = list(dispute.questions.values_list("to", flat=True))
    left = {side: questions.MOST_A_SIDE - asked.count(side) for side in Party.values}
    return _about(
        request,
        dispute,
        title="Ask a party about",
        button="Ask",
        effect=f"The side has {duration(dispute.question_seconds)} to answer and may bring evidence meanwhile; the"
        " clock of your ruling stands still until it has answered or that time is over.",
        form=lambda data=None, **initial: forms.Asking.of_sides(left, data, **initial),
        act=lambda said: questions.ask(
            case_id, moderator=request.user, to=said["to"], text=said["text"], revision=said["revision"]
        ),
        done=lambda made: f"The {made.to} is asked, and may answer until {moment(made.answer_by)}.",
    )


# --- the second person ----------------------------------------------------------------------------------------------
@_asks
def approve(request: Any, case_id: UUID) -> HttpResponse:
    """Say the second word: yes."""
    dispute = casefile.find(case_id)
    appealed = lifecycle.is_appealed(dispute)
    return _about(
        request,
        dispute,
        title="Approve the ruling on",
        button="Approve",
        effect="The ruling becomes final at once: this is posted now, and cannot be taken back."
        if appealed
        else f"The ruling stands from now on and both parties are told. Either may appeal for"
        f" {duration(dispute.appeal_seconds)}; then this is posted.",
        form=forms.Approval.asked,
        act=lambda said: approvals.approve(
            case_id, approver=request.user, revision=said["revision"], reason=said["reason"]
        ),
        done="You approved the ruling.",
        facts=_facts_of_ruling(dispute, rulings.proposed(dispute)),
    )


@_asks
def send_back(request: Any, case_id: UUID) -> HttpResponse:
    """Say the second word: no."""
    dispute = casefile.find(case_id)
    return _about(
        request,
        dispute,
        title="Send back the ruling on",
        button="Send it back",
        effect="Nothing is posted and the parties are not told. The case goes back to whoever ruled, who reads your"
        " reason; the clock of the ruling goes on.",
        form=forms.Return.asked,
        act=lambda said: approvals.send_back(
            case_id, approver=request.user, revision=said["revision"], reason=said["reason"]
        ),
        done="You sent the ruling back.",
        facts=_facts_of_ruling(dispute, rulings.proposed(dispute)),
    )


# --- appeals --------------------------------------------------------------------------------------------------------
@_asks
def uphold(request: Any, case_id: UUID) -> HttpResponse:
    """Let the ruling stand that was appealed."""
    dispute = casefile.find(case_id)
    appeal = Appeal.objects.filter(dispute=dispute).first()
    return _about(
        request,
        dispute,
        title="Uphold the ruling on",
        button="Uphold it",
        effect="The ruling becomes final at once: this is posted now, and cannot be taken back. The deposit of the"
        " appeal, if there is one, goes to the other side.",
        form=forms.Upholding.asked,
        act=lambda said: appeals.uphold(
            case_id,
            senior=request.user,
            revision=said["revision"],
            reasons=said["reasons"],
            private_notes=said["private_notes"],
        ),
        done="The ruling is upheld and carried out. Both parties were told.",
        facts=[
            *_facts_of_ruling(dispute, rulings.standing(dispute), notes=False),
            *([("Grounds of the appeal", appeal.grounds)] if appeal else []),
        ],
    )


# --- pages and facts ------------------------------------------------------------------------------------------------
def _about(request: HttpRequest, dispute: Dispute, *, title: str, facts: Any = None, **said: Any) -> HttpResponse:
    here = _page_of(dispute)
    name = f"case {named.short_id(dispute.pk)}"
    return asking.ask(
        request,
        Question(
            title=f"{title} {name}",
            facts=_facts_of(dispute) if facts is None else facts,
            revision=dispute.revision,
            crumbs=(_cases(), (name.capitalize(), here)),
            **said,
        ),
        back=here,
    )


def _cases() -> tuple[str, str]:
    return "Cases", reverse("admin:cases")


def _page_of(dispute: Dispute) -> str:
    return reverse("admin:case", args=[dispute.pk])


def _open_cases_of(user: Any) -> int:
    return Dispute.objects.filter(assigned_to=user, closed_at=None).count()


def _fit_for(dispute: Dispute) -> list[User]:
    """List who else could decide the case, fewest open cases first."""
    needed = candidates.HEARS_APPEALS if lifecycle.is_appealed(dispute) else candidates.RULES
    return [
        person
        for person in candidates.in_turn([needed])
        if person.pk != dispute.assigned_to_id and conflicts.found(person, dispute) is None
    ]


def _facts_of(dispute: Dispute) -> list[tuple[str, str]]:
    return [
        ("Case", f"{dispute.get_reason_display()}, said by the {dispute.opened_by}"),
        ("Parties", f"client {dispute.client.handle}, seller {dispute.seller.handle}"),
        ("At stake", f"{named.usdc(dispute.price_units)} USDC, bond {named.usdc(dispute.bond_units)} USDC"),
        ("State", dispute.get_state_display()),
        ("Who has it", dispute.assigned_to.get_username() if dispute.assigned_to else "nobody"),
    ]


def _facts_of_ruling(dispute: Dispute, ruling: Ruling | None, *, notes: bool = True) -> list[tuple[str, str]]:
    if ruling is None:
        return _facts_of(dispute)
    decision = decisions.of_ruling(ruling)
    posts = [
        f"{named.account_words(entry.account)}: {named.signed_usdc(entry.amount_units)} USDC"
        for entry in decisions.entries(dispute, dispute.job, decision)
    ]
    return [
        ("Ruling", f"{verdict(ruling)}, by {ruling.author.get_username() if ruling.author else 'default'}"),
        ("In words", decisions.in_words(dispute, dispute.job, decision)),
        ("It posts", "\n".join(posts) or "nothing"),
        ("Found", ", ".join(named.words(code) for code in ruling.reason_codes)),
        ("Public reasons", ruling.reasons),
        *([("Private notes", ruling.private_notes)] if notes and ruling.private_notes else []),
    ]
