"""The actions on a job: each translates, calls one verb, and answers the job."""

from typing import Any, ClassVar
from uuid import UUID

from rest_framework.response import Response

from accounts.api.fields import Shown
from accounts.edge.fields import Nothing, Strict, Text
from accounts.edge.schema import documented
from marketplace import deliveries, jobs, lifecycle, offers, terms
from marketplace.api import rendering, shapes
from marketplace.api.previews import ActionView
from marketplace.models import Job


class Reason(Strict):
    reason = Shown(min_length=1, max_length=2_000)


class OptionalReason(Strict):
    reason = Shown(required=False, allow_blank=True, max_length=2_000)


class Counter(Strict):
    terms = terms.TermsBody()
    message = Shown(required=False, allow_blank=True, max_length=offers.MAX_MESSAGE)


class AgreementRequest(Strict):
    terms_hash = Text(max_length=71)


class RevisionRequest(Strict):
    reason = Shown(min_length=deliveries.MIN_REASON, max_length=2_000)


class JobAction(ActionView):
    scopes: ClassVar[dict[str, str]] = {"POST": "jobs:write"}

    def answer(self, job: Job, status: int = 200) -> Response:
        self.job = job
        role = lifecycle.role_of(self.request.user, job)
        return Response(rendering.job(job, role=role, at=job.at), status=status)


class Offers(JobAction):
    @documented(request=Counter, responses={201: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Counter the other side's offer."""
        asked = self.body(Counter)
        checked = terms.read(asked.pop("terms"))
        return self.answer(offers.counter(job_id, by=request.user, terms=checked, token=request.auth, **asked), 201)


class Agreement(JobAction):
    @documented(request=AgreementRequest, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Agree to the other side's latest offer, named by its hash."""
        asked = self.body(AgreementRequest)
        return self.answer(offers.agree(job_id, by=request.user, token=request.auth, **asked))


class Decline(JobAction):
    @documented(request=OptionalReason, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Decline a job that is not funded."""
        return self.answer(offers.decline(job_id, by=request.user, **self.body(OptionalReason)))


class Funding(JobAction):
    idempotency: ClassVar[dict[str, str]] = {"POST": "required"}

    @documented(request=Nothing, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Fund an agreed job: the price is held, and the seller's bond."""
        self.body(Nothing)
        return self.answer(jobs.fund(job_id, client=request.user, token=request.auth))


class Start(JobAction):
    @documented(request=Nothing, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Say that the work has begun."""
        self.body(Nothing)
        return self.answer(jobs.start(job_id, seller=request.user))


class Abort(JobAction):
    @documented(request=Reason, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Give a funded job up."""
        return self.answer(jobs.abort(job_id, by=request.user, **self.body(Reason)))


class Approval(JobAction):
    @documented(request=Nothing, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Accept the delivery and pay the seller."""
        self.body(Nothing)
        return self.answer(jobs.approve(job_id, client=request.user))


class Revisions(JobAction):
    @documented(request=RevisionRequest, responses={201: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Ask for the work to be delivered again."""
        return self.answer(deliveries.request_revision(job_id, client=request.user, **self.body(RevisionRequest)), 201)
