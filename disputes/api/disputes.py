"""Cases: open one, list and read one's own, and what a party does in it."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts import clock
from accounts.api.fields import Id, Shown
from accounts.edge import pages
from accounts.edge.fields import Bps, Nothing, Strict
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid, NotFound
from disputes import appeals, cases, questions
from disputes.api import precedents, rendering, shapes
from disputes.models import Dispute, Reason
from marketplace.api.previews import ActionView

_SHORTEST, _LONGEST = cases.STATEMENT_CHARS


class Opening(Strict):
    reason = serializers.ChoiceField(choices=Reason.choices)
    statement = Shown(min_length=_SHORTEST, max_length=_LONGEST)
    requested_seller_bps = Bps()


class AnswerBody(Strict):
    statement = Shown(min_length=_SHORTEST, max_length=_LONGEST)
    requested_seller_bps = Bps()


class AppealBody(Strict):
    grounds = Shown(min_length=appeals.GROUNDS_CHARS[0], max_length=appeals.GROUNDS_CHARS[1])


class QuestionAnswer(Strict):
    question_id = Id()
    text = Shown(min_length=questions.ANSWER_CHARS[0], max_length=questions.ANSWER_CHARS[1])


class CaseAction(ActionView):
    scopes: ClassVar[dict[str, str]] = {"POST": "disputes:write"}
    request: Any

    def answer(self, dispute_id: UUID, status: int = 200) -> Response:
        found = rendering.whole(Dispute.objects.filter(pk=dispute_id)).get()
        self.job = found.job
        return Response(rendering.dispute(found, viewer=self.request.user, at=clock.now()), status=status)


class Opened(CaseAction):
    idempotency: ClassVar[dict[str, str]] = {"POST": "required"}
    preview_shape = precedents.DisputePreview

    @documented(request=Opening, responses={201: shapes.DisputeShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Open a dispute: the job stands still until it is settled, withdrawn or ruled."""
        asked = self.body(Opening)
        return self.answer(cases.open(job_id, opener=request.user, token=request.auth, **asked).pk, 201)

    def preview(self, run: Callable[[], Response]) -> Response:
        """Say what opening would do, and how similar cases ended."""
        answer = super().preview(run)
        answer.data["precedents"] = precedents.similar(self.job, self.request.data["reason"]) if self.job else None
        return answer


class Disputes(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(
        responses={200: paged(shapes.DisputeShape)},
        parameters=[
            OpenApiParameter("state", enum=Dispute.State.values),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Any) -> Response:
        """List the disputes one is a party of, newest first."""
        at = clock.now()
        rows = rendering.whole(_own(request))
        return pages.page(request, rows, render=lambda found: rendering.dispute(found, viewer=request.user, at=at))


class DisputeById(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(responses={200: shapes.DisputeShape})
    def get(self, request: Any, dispute_id: UUID) -> Response:
        """Read a dispute one is a party of."""
        found = rendering.whole(_of(request.user).filter(pk=dispute_id)).first()
        if found is None:
            raise NotFound("There is no such case.")
        return Response(rendering.dispute(found, viewer=request.user, at=clock.now()))


class Answer(CaseAction):
    @documented(request=AnswerBody, responses={200: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Answer a dispute that the other side opened."""
        asked = self.body(AnswerBody)
        return self.answer(cases.answer(dispute_id, by=request.user, **asked).pk)


class Withdrawal(CaseAction):
    @documented(request=Nothing, responses={200: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """
        Withdraw a dispute; the job goes on.

        The opener does it alone while nobody has answered. After that it asks, and the other side posts the same to
        consent; then the time that was left for the job comes back.
        """
        self.body(Nothing)
        return self.answer(cases.withdraw(dispute_id, by=request.user).pk)


class Appeals(CaseAction):
    idempotency: ClassVar[dict[str, str]] = {"POST": "required"}

    @documented(request=AppealBody, responses={201: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Appeal a ruling that gave one less than one asked for, or took a bond or deposit; once in a case."""
        asked = self.body(AppealBody)
        return self.answer(appeals.file(dispute_id, appellant=request.user, token=request.auth, **asked).pk, 201)


class Answers(CaseAction):
    @documented(request=QuestionAnswer, responses={200: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Answer a question that a moderator asked one's own side."""
        asked = self.body(QuestionAnswer)
        return self.answer(questions.answer(dispute_id, by=request.user, **asked).pk)


def _of(agent: Any) -> QuerySet[Dispute]:
    return Dispute.objects.filter(Q(client=agent) | Q(seller=agent))


def _own(request: Any) -> QuerySet[Dispute]:
    state = request.query_params.get("state")
    if state is None:
        return _of(request.user)
    if state not in Dispute.State.values:
        raise Invalid.at("/state", "invalid_choice", "There is no such state.")
    return _of(request.user).filter(state=state)
