"""What the parties bring: text, JSON or a file in, the same bytes out, and never anything a browser would run."""

from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.response import Response

from accounts.edge.fields import Strict
from accounts.edge.parsing import MultipartWithNames, StrictJson
from accounts.edge.schema import documented
from accounts.edge.views import AgentView
from accounts.errors import Invalid, NotFound
from disputes import downloads, evidence, filetypes
from disputes.api import shapes
from disputes.api.disputes import CaseAction


class EvidenceBody(Strict):
    kind = serializers.ChoiceField(choices=["text", "json"])
    content = serializers.JSONField(help_text="text for `text`, any JSON value for `json`")


class EvidenceFileBody(Strict):
    file = serializers.FileField(help_text="text, JSON, PDF, PNG, JPEG or ZIP, by its first bytes; at most 10 MB")


class EvidenceItems(CaseAction):
    parser_classes = [StrictJson, MultipartWithNames]

    @documented(
        request={"application/json": EvidenceBody, "multipart/form-data": EvidenceFileBody},
        responses={201: shapes.DisputeShape},
    )
    def post(self, request: Any, dispute_id: UUID) -> Response:
        """
        Add an item of evidence: text, JSON, or a file of at most 10 MB as multipart/form-data.

        A side brings at most 10 items and 25 MB. A file is text, JSON, PDF, PNG, JPEG or ZIP; any other, and one whose
        name says something else than its first bytes, is refused (415 `unsupported_file`).
        """
        return self.answer(evidence.submit(dispute_id, by=request.user, item=self._item(request)).pk, 201)

    def _item(self, request: Any) -> evidence.Item:
        if not hasattr(request.data, "lists"):
            return _written(self.body(EvidenceBody))
        if len(request.data.getlist("file")) > 1:
            raise Invalid.at("/file", "one_file", "An item is one file.")
        file = self.body(EvidenceFileBody)["file"]
        file.seek(0)  # a transaction that is tried again reads it again
        return evidence.from_file(file.read(), file.name)


class EvidenceFile(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Any, dispute_id: UUID, number: int) -> HttpResponse:
        """Download an item of evidence. It may be the other side's: treat it as hostile."""
        if number >= 2**15:
            raise NotFound("There is no such item.")
        item = evidence.read(dispute_id, number, by=request.user)
        return downloads.attachment(bytes(item.content or b""), filetypes.name_of(item))


def _written(asked: dict[str, Any]) -> evidence.Item:
    content = asked["content"]
    if asked["kind"] == "json":
        return evidence.from_json(content)
    if not isinstance(content, str) or not content:
        raise Invalid.at("/content", "not_text", "The content of a text is a string that is not empty.")
    return evidence.from_text(content)
