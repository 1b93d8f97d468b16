"""One lane to one receiver: the letters of a parcel, one after another."""

import logging
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from accounts.events import egress, rendering, secrets
from accounts.events.parcels import EXPIRED, Letter, Parcel, Result

log = logging.getLogger(__name__)

# Who took longer to answer is slow: it gets one letter, and then others have their turn.
SLOW_SECONDS = 2.0
# After so long a lane lets others have their turn, how quick its answers may be.
TURN_SECONDS = 5.0
# No request begins later after the claim: it has 15 seconds, and its answer must be recorded before the lease ends.
SENDING_SECONDS = 40.0


class Client(Protocol):
    """What `egress.Client` is to us."""

    async def post(self, url: str, *, headers: dict[str, str], body: bytes) -> egress.Answer: ...


class Lane:
    """Sends while it may: until it is stopped, its receiver is slow, or its time is up."""

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.is_stopped = self.is_slow = False
        self._begun = 0

    @property
    def unsent(self) -> list[UUID]:
        """Name what nobody can have received."""
        return [letter.delivery_id for letter in self.parcel.letters[self._begun :]]

    async def send(self, client: Client, note: Callable[[Result], None]) -> None:
        """Send letter after letter, and note what came of each."""
        started = time.monotonic()
        for letter in self.parcel.letters:
            if self.is_stopped or self.is_slow or time.monotonic() > self.parcel.begun + SENDING_SECONDS:
                return
            self._begun += 1
            begun = time.monotonic()
            note(await self._send(letter, client))
            self.is_slow = time.monotonic() - begun > SLOW_SECONDS
            if time.monotonic() - started > TURN_SECONDS:
                return

    async def _send(self, letter: Letter, client: Client) -> Result:
        endpoint = self.parcel.endpoint
        if letter.told is None:
            return Result(self.parcel, letter.delivery_id, error=EXPIRED)
        body = rendering.body(letter.told)
        headers = secrets.headers(
            endpoint,
            message_id=secrets.message_id(epoch=letter.told.cursor.epoch, event_id=letter.told.cursor.id),
            body=body,
            at=self.parcel.now(),
        )
        try:
            answer = await client.post(endpoint.url, headers=headers, body=body)
        except (egress.Blocked, egress.Unreachable) as failure:
            return Result(self.parcel, letter.delivery_id, error=failure.word)
        except Exception:  # ours: the receiver is given the benefit of another attempt
            log.exception("webhook_not_sent delivery=%s", letter.delivery_id)
            return Result(self.parcel, letter.delivery_id, error="internal")
        return Result(
            self.parcel,
            letter.delivery_id,
            status=answer.status,
            error="" if 200 <= answer.status < 300 else "status",
            retry_after_seconds=answer.retry_after_seconds,
        )
