"""The pages about agents: who they are, what they did, what staff make of it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_GET

from accounts.models import Agent
from disputes.console import agent_verbs, agentfile, finding, keyset
from disputes.console.doors import for_staff_who
from escrow.console.asking import page

PAGE = 50
STATUSES = [("", "Any status"), *Agent.Status.choices]


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List the addresses, each behind the console's sign-in."""
    here = "agents/<uuid:agent_id>/"
    return [
        path("agents/", guard(agents), name="agents"),
        path(here, guard(agent), name="agent"),
        path(f"{here}suspend/", guard(agent_verbs.suspend), name="agent_suspend"),
        path(f"{here}reinstate/", guard(agent_verbs.reinstate), name="agent_reinstate"),
        path(f"{here}limits/", guard(agent_verbs.limits), name="agent_limits"),
    ]


@for_staff_who("accounts.view_agent")
@require_GET
def agents(request: Any) -> HttpResponse:
    """List the agents by their handles."""
    sought, status = request.GET.get("q", "").strip(), request.GET.get("status", "")
    found = Agent.objects.only("id", "handle", "display_name", "status", "created_at", "level_by_staff")
    if status in Agent.Status.values:
        found = found.filter(status=status)
    if sought:
        found = finding.agents(found, sought)
    rows, more = keyset.page(found, keyset.Order("handle"), after=request.GET.get("after", ""), limit=PAGE)
    query = request.GET.copy()
    query["after"] = more or ""
    return page(
        request,
        "admin/agents/list.html",
        title="Agents",
        rows=rows,
        more=f"?{query.urlencode()}" if more else None,
        sought=sought,
        status=status,
        statuses=STATUSES,
    )


@for_staff_who("accounts.view_agent")
@require_GET
def agent(request: Any, agent_id: UUID) -> HttpResponse:
    """Show everything about an agent that this person may see."""
    file = agentfile.read(agent_id, user=request.user)
    return page(
        request,
        "admin/agents/agent.html",
        title=f"Agent {file.agent.handle}",
        file=file,
        agent=file.agent,
        may_suspend=request.user.has_perm("accounts.suspend_agent"),
        may_set_limits=request.user.has_perm("accounts.set_limits"),
    )
