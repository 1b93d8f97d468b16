"""Jobs: propose one, list one's own, read one, and its time line."""

from typing import Any
from uuid import UUID

from django.db.models import F, Prefetch, Q
from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

from accounts import agents, clock
from accounts.api.fields import Id, Shown
from accounts.edge import pages
from accounts.edge.fields import Strict, Text, Whole
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid, NotFound
from accounts.models import Agent
from marketplace import lifecycle, listings, offers, standstills, terms
from marketplace.api import rendering, shapes
from marketplace.api.previews import ActionView
from marketplace.lifecycle import Role
from marketplace.models import Delivery, Job, Offer, State


class Proposal(Strict):
    seller = Text(max_length=39, help_text="id or handle")
    listing_id = Id(required=False, allow_null=True)
    terms = terms.TermsBody()
    message = Shown(required=False, allow_blank=True, max_length=offers.MAX_MESSAGE)
    max_rounds = Whole(required=False, min_value=1, max_value=offers.MAX_ROUNDS)
    offer_seconds = Whole(required=False, min_value=offers.MIN_OFFER_SECONDS, max_value=offers.MAX_OFFER_SECONDS)


class Jobs(ActionView):
    scopes = {"GET": "jobs:read", "POST": "jobs:write"}

    @documented(
        responses={200: paged(shapes.JobShape)},
        parameters=[
            OpenApiParameter("role", enum=["client", "seller"]),
            OpenApiParameter("state", enum=State.values),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Any) -> Response:
        """List one's own jobs, newest first."""
        at = clock.now()
        return pages.page(request, _own(request), render=lambda job: _shown(job, request.user, at))

    @documented(request=Proposal, responses={201: shapes.JobShape})
    def post(self, request: Any) -> Response:
        """Propose a job: the first offer of a negotiation."""
        asked = self.body(Proposal)
        seller = _seller(asked.pop("seller"))
        listing_id = asked.pop("listing_id", None)
        self.job = offers.propose(
            request.user,
            seller,
            terms=terms.read(asked.pop("terms")),
            listing=listings.find(listing_id, viewer=request.user) if listing_id else None,
            **asked,
        )
        return Response(rendering.job(self.job, role=Role.CLIENT, at=self.job.at), status=201)


class JobById(AgentView):
    scopes = {"GET": "jobs:read"}

    @documented(responses={200: shapes.JobShape})
    def get(self, request: Any, job_id: UUID) -> Response:
        """Read a job of one's own."""
        job = _found(job_id, request.user)
        return Response(_shown(job, request.user, clock.now()))


class Timeline(AgentView):
    scopes = {"GET": "jobs:read"}

    @documented(responses={200: shapes.TimelineShape})
    def get(self, request: Any, job_id: UUID) -> Response:
        """Read every step of a job, in order."""
        job = find(job_id, request.user)
        return Response({"data": [rendering.step(step) for step in job.transitions.order_by("revision")]})


def find(job_id: UUID, agent: Agent) -> Job:
    """
    Find a job of one's own.

    :raises NotFound: for a foreign id as for an unknown one
    """
    job = Job.objects.filter(Q(client=agent) | Q(seller=agent), pk=job_id).first()
    if job is None:
        raise NotFound
    return job


def _found(job_id: UUID, agent: Agent) -> Job:
    job = _whole(Job.objects.filter(Q(client=agent) | Q(seller=agent), pk=job_id)).first()
    if job is None:
        raise NotFound
    return job


def _own(request: Any) -> Any:
    role, state = request.query_params.get("role"), request.query_params.get("state")
    if role not in (None, "client", "seller"):
        raise Invalid.at("/role", "invalid_choice", "`role` is client or seller.")
    if state is not None and state not in State.values:
        raise Invalid.at("/state", "invalid_choice", "There is no such state.")
    mine = Q(client=request.user) | Q(seller=request.user) if role is None else Q(**{role: request.user})
    rows = Job.objects.filter(mine)
    return _whole(rows.filter(state=state) if state else rows)


def _whole(rows: Any) -> Any:
    """Load with each job what its rendering shows: three statements, however many jobs."""
    deliveries = Delivery.objects.order_by("number").only("job_id", "number", "sha256", "size", "delivered_at")
    rows = rows.annotate(**standstills.since_in_sql())
    return rows.select_related("client", "seller").prefetch_related(
        Prefetch("offers", Offer.objects.filter(number=F("job__offers_count")), to_attr="made"),
        Prefetch("deliveries", deliveries, to_attr="delivered"),
    )


def _shown(job: Any, agent: Agent, at: Any) -> dict[str, Any]:
    job.offer = job.made[-1]
    return rendering.job(job, role=lifecycle.role_of(agent, job), at=at)


def _seller(name: str) -> Agent:
    try:
        return agents.find(name)
    except NotFound:
        raise NotFound.at("/seller", "not_found", "There is no such agent.") from None
