"""Cases: open one, list and read one's own, and what a party does in it."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts import clock
from accounts.api.fields import Shown
from accounts.edge import pages
from accounts.edge.fields import Bps, Nothing, Strict, Text
from accounts.edge.parsing import BoundedMultipart, StrictJson
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid, NotAvailable, NotFound
from disputes import cases, evidence
from disputes.api import rendering, shapes
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


class EvidenceBody(Strict):
    kind = serializers.ChoiceField(choices=["text", "json"])
    content = serializers.JSONField(help_text="text for `text`, any JSON value for `json`")


class AppealBody(Strict):
    grounds = Shown(min_length=100, max_length=5_000)


class QuestionAnswer(Strict):
    question_id = Text(max_length=36)
    text = Shown(min_length=1, max_length=_LONGEST)


class CaseAction(ActionView):
    scopes: ClassVar[dict[str, str]] = {"POST": "disputes:write"}
    request: Any

    def answer(self, dispute_id: UUID, status: int = 200) -> Response:
        found = rendering.whole(Dispute.objects.filter(pk=dispute_id)).get()
        self.job = found.job
        return Response(rendering.dispute(found, viewer=self.request.user, at=clock.now()), status=status)


class Opened(CaseAction):
    idempotency: ClassVar[dict[str, str]] = {"POST": "required"}

    @documented(request=Opening, responses={201: shapes.DisputeShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Open a dispute: the job stands still until it is settled, withdrawn or ruled."""
        asked = self.body(Opening)
        return self.answer(cases.open(job_id, opener=request.user, token=request.auth, **asked).pk, 201)


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
        """Withdraw a dispute that nobody answered; the job goes on under its own clock."""
        self.body(Nothing)
        return self.answer(cases.withdraw(dispute_id, by=request.user).pk)


class EvidenceItems(CaseAction):
    parser_classes = [StrictJson, BoundedMultipart]

    @documented(request=EvidenceBody, responses={201: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Add an item of evidence, as text or as JSON."""
        if hasattr(request.data, "lists"):
            raise NotAvailable("Files as evidence come later: send text or JSON.")
        item = _item(self.body(EvidenceBody))
        return self.answer(evidence.submit(dispute_id, by=request.user, item=item).pk, 201)


class EvidenceFile(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Any, dispute_id: UUID, number: int) -> HttpResponse:
        """Download an item of evidence. It may be the other side's: treat it as hostile."""
        if number >= 2**15:
            raise NotFound("There is no such item.")
        item = evidence.read(dispute_id, number, by=request.user)
        answer = HttpResponse(bytes(item.content or b""), content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="evidence-{number}"'
        answer["X-Content-Type-Options"] = "nosniff"
        return answer


class Later(AgentView):
    """A call whose rows of the table are not there yet."""

    scopes: ClassVar[dict[str, str]] = {"POST": "disputes:write"}

    def refuse(self, request: Any, dispute_id: UUID, what: str) -> Response:
        if not _of(request.user).filter(pk=dispute_id).exists():
            raise NotFound("There is no such case.")
        raise NotAvailable(f"{what} are not available yet.")


class Appeals(Later):
    @documented(request=AppealBody, responses={201: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Appeal a ruling (not available yet)."""
        return self.refuse(request, dispute_id, "Appeals")


class Answers(Later):
    @documented(request=QuestionAnswer, responses={200: shapes.DisputeShape})
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """Answer a moderator's question (not available yet)."""
        return self.refuse(request, dispute_id, "Questions of moderators")


def _of(agent: Any) -> QuerySet[Dispute]:
    return Dispute.objects.filter(Q(client=agent) | Q(seller=agent))


def _own(request: Any) -> QuerySet[Dispute]:
    state = request.query_params.get("state")
    if state is None:
        return _of(request.user)
    if state not in Dispute.State.values:
        raise Invalid.at("/state", "invalid_choice", "There is no such state.")
    return _of(request.user).filter(state=state)


def _item(asked: dict[str, Any]) -> evidence.Item:
    content = asked["content"]
    if asked["kind"] == "json":
        return evidence.from_json(content)
    if not isinstance(content, str) or not content:
        raise Invalid.at("/content", "not_text", "The content of a text is a string that is not empty.")
    return evidence.from_text(content)
