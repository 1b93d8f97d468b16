"""The signed pack of a case, for its parties."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Q
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes

from accounts import audit
from accounts.edge.schema import documented
from accounts.edge.views import AgentView
from accounts.errors import NotFound
from disputes import downloads, lifecycle
from disputes.models import Dispute


class Pack(AgentView):
    scopes: ClassVar[dict[str, str]] = {"GET": "jobs:read"}

    @documented(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Any, dispute_id: UUID) -> FileResponse:
        """Download the case as a signed ZIP that anybody can verify: document, evidence, deliveries, digests."""
        dispute = Dispute.objects.filter(Q(client=request.user) | Q(seller=request.user), pk=dispute_id).first()
        if dispute is None:
            raise NotFound("There is no such case.")
        role = lifecycle.party_of(request.user, dispute)
        audit.record("read.exported_case", agent=request.user, subject=f"dispute:{dispute.pk}", facts={"for": role})
        return downloads.pack(dispute, for_role=role)
