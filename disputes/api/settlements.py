"""Settlement offers of every job: served here, because a live case is locked before its job."""

from typing import Any
from uuid import UUID

from rest_framework.response import Response

from accounts.edge.fields import Bps, Strict
from accounts.edge.schema import documented
from disputes import cases
from marketplace.api import shapes
from marketplace.api.actions import JobAction


class SettlementOffer(Strict):
    seller_bps = Bps()


class SettlementOffers(JobAction):
    scopes = {"POST": "jobs:write", "DELETE": "jobs:write"}
    idempotency = {"POST": "required"}

    @documented(request=SettlementOffer, responses={200: shapes.JobShape})
    def post(self, request: Any, job_id: UUID) -> Response:
        """Offer a split; one that meets or crosses the other side's ends the job at the midpoint."""
        asked = self.body(SettlementOffer)
        return self.answer(cases.settle_offer(job_id, by=request.user, **asked))

    @documented(responses={200: shapes.JobShape})
    def delete(self, request: Any, job_id: UUID) -> Response:
        """Take one's offer back."""
        return self.answer(cases.withdraw_settle_offer(job_id, by=request.user))
