from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts.edge.pages import limit_of
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Invalid
from accounts.events import feed, rendering

MAX_TYPES = 50


class EventRow(serializers.Serializer):
    id = serializers.CharField()
    cursor = serializers.CharField(help_text="pass as `after` to read on from here")
    type = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class Events(AgentView):
    scopes = {"GET": "events:read"}

    @documented(
        parameters=[
            OpenApiParameter("after", str, description="the cursor of the last event that was read"),
            OpenApiParameter("types", str, description="event types, separated by commas"),
            OpenApiParameter("limit", int, description="1 to 100, 20 if not given"),
        ],
        responses={200: paged(EventRow)},
    )
    def get(self, request: Any) -> Response:
        """Read what the agent was told, oldest first and without gaps; `next_cursor` is null when nothing is new."""
        after = request.query_params.get("after")
        told = feed.read(
            request.user.pk,
            after=feed.cursor_of(after) if after else feed.START,
            types=types_of(request.query_params.get("types", "")),
            limit=limit_of(request),
        )
        return Response(
            {"data": [rendering.shown(event) for event in told], "next_cursor": str(told[-1].cursor) if told else None}
        )


def types_of(given: str) -> list[str]:
    types = [name.strip() for name in given.split(",") if name.strip()]
    if len(types) > MAX_TYPES:
        raise Invalid.at("/types", "too_many", f"At most {MAX_TYPES} types.")
    return types
