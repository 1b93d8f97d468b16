"""What staff do to an agent, each by a page that asks first: translate, one verb, translate."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts import limits as bounds
from accounts import staff_limits, suspensions, trust
from accounts.edge.fields import units_from_text
from accounts.models import Agent
from disputes.console import agentfile, asking
from disputes.console.asking import Question
from disputes.console.doors import for_staff_who
from disputes.templatetags import console as named
from escrow.console.forms import Amount

LEVELS = [("", "As it has earned"), *((str(level), str(level)) for level in range(trust.LOWEST, trust.HIGHEST + 1))]
MOST_DIGITS = len(str(staff_limits.MOST_UNITS))


class Cap(Amount):
    """Decimal USDC, as micro-USDC; zero allows nothing, an empty field sets nothing."""

    def clean(self, value: Any) -> int | None:  # type: ignore[override]
        given = forms.CharField.clean(self, value)
        try:
            return units_from_text(given) if given else None
        except ValueError:
            raise forms.ValidationError(
                "An amount of USDC, like 12.5, with at most six digits after the point."
            ) from None


class Limits(asking.Reasoned):
    """What staff set; what stays empty follows from the trust level."""

    level = forms.TypedChoiceField(label="Trust level", choices=LEVELS, coerce=int, empty_value=None, required=False)
    max_open_jobs = forms.IntegerField(label="Open jobs at once", min_value=0, max_value=2**31 - 1, required=False)
    max_job_units = Cap(label="Value of one job, USDC", required=False)
    max_open_units = Cap(label="Value of all open jobs, USDC", required=False)
    # as they stood when the page was made: whoever was slower than a colleague looks again
    seen = forms.CharField(widget=forms.HiddenInput)
    field_order = ["level", "max_open_jobs", "max_job_units", "max_open_units", "reason"]

    def clean_seen(self) -> staff_limits.Limits:
        parts = self.cleaned_data["seen"].split(",")
        numbers = all(not part or (part.isdecimal() and len(part) <= MOST_DIGITS) for part in parts)
        if len(parts) != len(staff_limits.Limits._fields) or not numbers:
            raise forms.ValidationError("This page is not as it was made: open it anew.")
        return staff_limits.Limits(*(int(part) if part else None for part in parts))


def _written(limits: staff_limits.Limits) -> str:
    return ",".join("" if value is None else str(value) for value in limits)


@for_staff_who("accounts.suspend_agent")
@require_http_methods(["GET", "POST"])
def suspend(request: Any, agent_id: UUID) -> HttpResponse:
    """Stop an agent's new business."""
    return _about(
        request,
        agent_id,
        title="Suspend",
        button="Suspend",
        effect="New business of this agent is refused: its unfunded offers are declined, its listings paused. Funded"
        " jobs and their cases run on, and its money stays its own. It is told, without your reason.",
        form=asking.Reasoned.asked,
        act=lambda said: suspensions.suspend(agent_id, by=request.user, reason=said["reason"]),
        done="The agent is suspended.",
    )


@for_staff_who("accounts.suspend_agent")
@require_http_methods(["GET", "POST"])
def reinstate(request: Any, agent_id: UUID) -> HttpResponse:
    """Let a suspended agent do business again."""
    return _about(
        request,
        agent_id,
        title="Reinstate",
        button="Reinstate",
        effect="The agent may take new business again. What was declined or paused stays so until the agent acts.",
        form=asking.Reasoned.asked,
        act=lambda said: suspensions.reinstate(agent_id, by=request.user, reason=said["reason"]),
        done="The agent may do business again.",
    )


@for_staff_who("accounts.set_limits")
@require_http_methods(["GET", "POST"])
def limits(request: Any, agent_id: UUID) -> HttpResponse:
    """Lower an agent's limits, or lift them."""
    seen = staff_limits.of(agentfile.find(agent_id))
    return _about(
        request,
        agent_id,
        title="Set the limits of",
        button="Set them",
        effect="These limits bind the agent from its next step on; funded jobs are not touched. A field that stays"
        " empty follows from the trust level.",
        form=lambda data=None, **initial: Limits.asked(data, seen=_written(seen), **seen._asdict(), **initial),
        act=lambda said: staff_limits.set_limits(
            agent_id,
            by=request.user,
            reason=said["reason"],
            expected=said["seen"],
            **{name: said[name] for name in staff_limits.Limits._fields},
        ),
        done="The limits are set.",
    )


def _about(request: Any, agent_id: UUID, *, title: str, **said: Any) -> HttpResponse:
    agent = agentfile.find(agent_id)
    here = reverse("admin:agent", args=[agent_id])
    return asking.ask(
        request,
        Question(
            title=f"{title} {agent.handle}",
            facts=_facts_of(agent),
            crumbs=(("Agents", reverse("admin:agents")), (agent.handle, here)),
            **said,
        ),
        back=here,
    )


def _facts_of(agent: Agent) -> list[tuple[str, str]]:
    now = bounds.of(agent)
    limits = now["limits"].items()
    return [
        ("Agent", f"{agent.handle}, {agent.display_name}"),
        ("Status", agent.status),
        ("Trust level", str(now["trust_level"])),
        *((f"Limit of {named.words(name)}", "none" if value is None else str(value)) for name, value in limits),
        *((f"In use of {named.words(name)}", str(value)) for name, value in now["used"].items()),
    ]
