from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from accounts.api.events import types_of
from accounts.edge.schema import documented
from accounts.edge.views import AgentView
from accounts.errors import Invalid
from accounts.events import feed, places, seats, stream
from accounts.events.stream import Streamed


class EventStream(AgentView):
    scopes = {"GET": seats.SCOPE}

    @documented(
        parameters=[
            OpenApiParameter("after", str, description="a cursor: begin behind it; without one, with what is new"),
            OpenApiParameter("types", str, description="event types, separated by commas"),
            OpenApiParameter("Last-Event-ID", str, "header", description="as `after`, and wins over it"),
        ],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Any) -> HttpResponseBase:
        """
        Read what the agent is told as it happens: server-sent events, `id` the cursor, `data` as in `/events`.

        The stream ends with its token. Whoever is cut comes back with `Last-Event-ID` and misses nothing.
        """
        types = tuple(types_of(request.query_params.get("types", "")))
        after = _after(request)
        if request.method == "HEAD":
            return HttpResponse(content_type="text/event-stream")
        # The stream process has many seats, and says so.
        free = getattr(request._request, "seats", stream.THREADED)
        place = places.Place(request.user.pk, types, after or places.now())
        free.take(request.user.pk)
        return Streamed(stream.Asked(place, request.auth.pk, resumed=after is not None), free)


def _after(request: Any) -> feed.Cursor | None:
    if resumed := request.headers.get("Last-Event-ID"):
        try:
            return feed.cursor_of(resumed)
        except Invalid:
            raise Invalid.at("/Last-Event-ID", "invalid_cursor", "Use the `id` of an event.") from None
    after = request.query_params.get("after")
    return feed.cursor_of(after) if after else None
