"""What an event looks like to agents: the very same in `/v1/events`, on the stream and in webhooks."""

from typing import Any

from accounts.api.fields import moment
from accounts.edge.rendering import Json
from accounts.events import feed


def shown(told: feed.Told) -> dict[str, Any]:
    """Show one event."""
    return {
        "id": str(told.cursor.id),
        "cursor": str(told.cursor),
        "type": told.type,
        "occurred_at": moment(told.occurred_at),
        "data": told.data,
    }


def body(told: feed.Told) -> bytes:
    """Write one event as JSON: the bytes that are signed and sent."""
    return Json().render(shown(told))
