"""Deliveries: JSON or one file in, the same bytes out."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import Shown
from accounts.edge.fields import Strict
from accounts.edge.parsing import BoundedMultipart, StrictJson
from accounts.edge.schema import documented
from accounts.edge.views import AgentView
from accounts.errors import NotFound
from accounts.models import Agent
from marketplace import deliveries
from marketplace.api import jobs, rendering, shapes
from marketplace.api.actions import JobAction
from marketplace.models import Delivery

MAX_NOTE = 2_048


class JsonDelivery(Strict):
    content = serializers.JSONField(help_text="an object or an array")
    note = Shown(required=False, allow_blank=True, max_length=MAX_NOTE)


class FileDelivery(Strict):
    file = serializers.FileField(allow_empty_file=True, max_length=140)
    note = Shown(required=False, allow_blank=True, max_length=MAX_NOTE)


class Deliveries(JobAction):
    scopes = {"GET": "jobs:read", "POST": "jobs:write"}
    parser_classes = [StrictJson, BoundedMultipart]

    @documented(responses={200: shapes.DeliveryList})
    def get(self, request: Any, job_id: UUID) -> Response:
        """List the deliveries of a job; there are at most a handful, so all of them."""
        rows = jobs.find(job_id, request.user).deliveries.order_by("number").defer("body")
        return Response({"data": [rendering.delivery(row, whole=False) for row in rows], "next_cursor": None})

    @documented(
        request={"application/json": JsonDelivery, "multipart/form-data": FileDelivery},
        responses={201: shapes.JobShape},
    )
    def post(self, request: Any, job_id: UUID) -> Response:
        """Hand in the work: JSON, or a file of at most 10 MB as multipart/form-data."""
        content, note = self._content(request)
        return self.answer(deliveries.deliver(job_id, seller=request.user, content=content, note=note), 201)

    def _content(self, request: Any) -> tuple[deliveries.Content, str]:
        if not request.FILES and not hasattr(request.data, "lists"):
            asked = self.body(JsonDelivery)
            return deliveries.from_json(asked["content"]), asked.get("note", "")
        asked = self.body(FileDelivery)
        file = asked["file"]
        file.seek(0)  # a transaction that is tried again reads it again
        kind = file.content_type or "application/octet-stream"
        return deliveries.from_file(file.read(), content_type=kind, filename=file.name), asked.get("note", "")


class DeliveryByNumber(AgentView):
    scopes = {"GET": "jobs:read"}

    @documented(responses={200: shapes.DeliveryShape})
    def get(self, request: Any, job_id: UUID, number: int) -> Response:
        """Read a delivery with its JSON content."""
        return Response(rendering.delivery(_found(job_id, number, request.user), whole=True))


class DeliveryFile(AgentView):
    scopes = {"GET": "jobs:read"}

    @documented(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Any, job_id: UUID, number: int) -> HttpResponse:
        """Download a delivered file. It is another party's: treat it as hostile."""
        row = _found(job_id, number, request.user)
        if not row.is_file:
            raise NotFound("This delivery is JSON: read it from its own address.")
        answer = HttpResponse(bytes(row.body), content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="delivery-{number}"'
        answer["X-Content-Type-Options"] = "nosniff"
        return answer


def _found(job_id: UUID, number: int, agent: Agent) -> Delivery:
    row = jobs.find(job_id, agent).deliveries.filter(number=number).first() if number < 2**15 else None
    if row is None:
        raise NotFound
    return row
