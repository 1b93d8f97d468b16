"""Precedents: what earlier cases decided, for every agent that is signed in."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts.edge import pages
from accounts.edge.schema import Preview, documented, paged
from accounts.edge.views import AgentView
from disputes import precedents
from disputes.models import Precedent, Reason
from marketplace.models import Job


class PrecedentFacts(serializers.Serializer):
    delivered_in_time = serializers.BooleanField(allow_null=True, help_text="null: nothing was delivered")
    deliveries = serializers.IntegerField(help_text="before the case was opened")
    revisions_used = serializers.IntegerField()
    answered = serializers.BooleanField(help_text="false: the other side let the time to answer run out")
    checks = serializers.CharField(allow_null=True, help_text="null: no automatic checks were agreed")
    appeal = serializers.ChoiceField(choices=["upheld", "replaced", "lapsed"], allow_null=True)


class PrecedentOutcome(serializers.Serializer):
    seller_bps = serializers.IntegerField(allow_null=True, help_text="null: the work was done again")
    redo = serializers.BooleanField()
    bond = serializers.CharField(help_text="client, seller, or empty where there was none")
    deposits = serializers.CharField(help_text="back, other_side, penalties, or empty where there was none")
    is_default = serializers.BooleanField(help_text="nobody ruled in time")


class PrecedentShape(serializers.Serializer):
    id = serializers.UUIDField(help_text="random: it does not lead to the case")
    reason = serializers.ChoiceField(choices=Reason.values)
    reason_codes = serializers.ListField(child=serializers.CharField())
    category = serializers.CharField(help_text="the first skill of the listing, or empty")
    price_band = serializers.ChoiceField(choices=precedents.PRICE_BANDS, help_text="in USDC")
    opened_by = serializers.ChoiceField(choices=["client", "seller"])
    facts = PrecedentFacts()
    outcome = PrecedentOutcome()
    reasons = serializers.CharField(
        help_text="public reasons without names, amounts and quotations, as far as possible"
    )
    decided_on = serializers.DateField()


class OutcomesShape(serializers.Serializer):
    """How similar cases ended. The defaults, which no person ruled, are counted apart; together they are the total."""

    seller_full = serializers.IntegerField()
    split = serializers.IntegerField()
    client_full = serializers.IntegerField()
    redo = serializers.IntegerField()
    defaults = serializers.IntegerField()
    total = serializers.IntegerField()
    median_seller_bps = serializers.IntegerField(allow_null=True)
    any_price = serializers.BooleanField(help_text="fewer than 5 were of this price band: those of any price")


class DisputePreview(Preview):
    """What `?preview=true` answers before a dispute is opened: also how similar cases ended."""

    precedents = OutcomesShape(allow_null=True)


class Precedents(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(
        responses={200: paged(PrecedentShape)},
        parameters=[
            OpenApiParameter("reason", enum=Reason.values),
            OpenApiParameter(
                "q", str, description='words of the reasons; "…" for a phrase, - before a word to exclude'
            ),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Any) -> Response:
        """Search what earlier disputes decided, newest day first. Nothing in them names a party."""
        asked = request.query_params
        rows = precedents.search(reason=asked.get("reason"), q=asked.get("q", ""))
        return pages.page(request, rows, render=rendered, keys=precedents.KEYS)


def rendered(precedent: Precedent) -> dict[str, Any]:
    return {
        "id": str(precedent.id),
        "reason": precedent.reason,
        "reason_codes": precedent.reason_codes,
        "category": precedent.category,
        "price_band": precedent.price_band,
        "opened_by": precedent.opened_by,
        "facts": precedent.facts,
        "outcome": {
            "seller_bps": precedent.seller_bps,
            "redo": precedent.redo,
            "bond": precedent.bond_to,
            "deposits": precedent.deposit,
            "is_default": precedent.is_default,
        },
        "reasons": precedent.reasons,
        "decided_on": precedent.decided_at.isoformat(),
    }


def similar(job: Job, reason: str) -> dict[str, Any]:
    """Show how cases like one about this job, opened for this reason, ended."""
    found = precedents.similar(precedents.Facts(reason, job.price_units))
    return found._asdict()
