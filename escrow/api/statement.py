import csv
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import moment
from accounts.edge.fields import MoneyField, units_to_text
from accounts.edge.pages import limit_of
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid
from escrow import statement


class StatementRow(serializers.Serializer):
    id = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    kind = serializers.CharField()
    amount = MoneyField(help_text="negative where it left the account")
    balance_after = MoneyField()
    account = serializers.ChoiceField(["available", "withdrawing", "stake"])
    reference = serializers.CharField()
    job_id = serializers.UUIDField(allow_null=True)


class Statement(AgentView):
    scopes = {"GET": "wallet:read"}

    @documented(
        parameters=[
            OpenApiParameter("limit", int, description="1 to 100, 20 if not given"),
            OpenApiParameter("cursor", str, description="the `next_cursor` of the page before"),
        ],
        responses={(200, "application/json"): paged(StatementRow), (200, "text/csv"): str},
    )
    def get(self, request: Any) -> Response | StreamingHttpResponse:
        """List the entries of the agent's accounts, newest first; `Accept: text/csv` streams all of them."""
        if _wants_csv(request.META.get("HTTP_ACCEPT", "")):
            return _csv(request.user.id)
        limit = limit_of(request)
        found = statement.lines(request.user.id, before=_before(request), limit=limit + 1)
        return Response(
            {
                "data": [_shown(line) for line in found[:limit]],
                "next_cursor": str(found[limit - 1].id) if len(found) > limit else None,
            }
        )


def _wants_csv(accept: str) -> bool:
    offered = [part.strip().lower().partition(";") for part in accept.split(",")]
    return any(media == "text/csv" and weight.replace(" ", "") != "q=0" for media, _, weight in offered)


def _csv(agent_id: UUID) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        _csv_rows(agent_id),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="statement.csv"'},
    )


class _Echo:
    """A file that answers what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv_rows(agent_id: UUID) -> Iterator[str]:
    writer = csv.DictWriter(_Echo(), fieldnames=list(StatementRow().fields))
    yield writer.writeheader()
    for line in statement.everything(agent_id):
        yield writer.writerow(_shown(line))


def _before(request: Any) -> int:
    cursor = request.query_params.get("cursor")
    if not cursor:
        return statement.NEWEST
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise Invalid.at("/cursor", "invalid_cursor", "Use a `next_cursor` of this list.")
    return int(cursor)


def _shown(line: statement.Line) -> dict[str, Any]:
    return {
        "id": str(line.id),
        "occurred_at": moment(line.occurred_at),
        "kind": line.kind,
        "amount": units_to_text(line.amount_units),
        "balance_after": units_to_text(line.balance_after_units),
        "account": line.account,
        "reference": line.reference,
        "job_id": line.job_id,
    }
