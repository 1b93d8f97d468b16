"""What a worker is given to send, and what comes of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from accounts.events.feed import Told
from accounts.models import WebhookEndpoint

PER_LANE = 20
MAX_PATIENCE_SECONDS = 86_400
GONE = 410
ASKED_FOR_PATIENCE = frozenset({429, 503})
EXPIRED = "expired"


class Letter(NamedTuple):
    """One delivery; without an event if that is older than events are kept."""

    delivery_id: UUID
    told: Told | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one lane of an endpoint was taken for: its letters are sent one after another."""

    endpoint: WebhookEndpoint
    lane: int
    lease: UUID
    # Which names the claim on the lane as well: another's ends at another moment.
    until: datetime
    claimed_at: datetime
    # By this machine's monotonic clock, read before the claim: nothing here lasts longer than the database thinks.
    begun: float
    letters: tuple[Letter, ...]

    @property
    def may_have_more(self) -> bool:
        return len(self.letters) == PER_LANE

    def now(self) -> datetime:
        """Tell the time by the database's clock, without asking it."""
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.begun)


class Result(NamedTuple):
    """What came of a letter: an answer with its status, or the word why there is none."""

    parcel: Parcel
    delivery_id: UUID
    status: int | None = None
    error: str = ""
    retry_after_seconds: int | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def patience_seconds(self) -> int:
        """How long the receiver asked us to leave it in peace."""
        asked = self.retry_after_seconds if self.status in ASKED_FOR_PATIENCE else None
        return min(asked or 0, MAX_PATIENCE_SECONDS)

    @property
    def closes(self) -> bool:
        """Whether nothing more should be sent to the endpoint now."""
        return self.status == GONE or self.patience_seconds > 0


class Standing(NamedTuple):
    """How an endpoint stands: whoever was given a parcel for it at an earlier revision stops sending."""

    endpoint_id: UUID
    is_enabled: bool
    revision: int


class Return(NamedTuple):
    """A parcel that is done with: its lane is free, and what was not sent is due again at once."""

    parcel: Parcel
    unsent: Sequence[UUID] = ()
