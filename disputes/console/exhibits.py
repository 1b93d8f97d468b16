"""Files of the parties: pictures made anew for the page, everything else to be saved, never opened by the browser."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_GET

from accounts import audit
from accounts.errors import TryLater
from disputes import downloads, filetypes, images
from disputes.console import casefile
from disputes.console.pages import for_case_staff, to_case
from disputes.models import Evidence
from marketplace.models import Delivery


@for_case_staff
@require_GET
def picture(request: Any, case_id: UUID, number: int) -> HttpResponse:
    """Show a picture among the evidence, decoded and encoded anew."""
    item = _item(case_id, number)
    if item.content_type not in filetypes.PICTURES:
        raise Http404("This item is no picture.")
    try:
        pixels = images.reencoded(bytes(item.content))
    except images.Unreadable as refusal:
        raise Http404(refusal.detail) from None
    return downloads.harmless(HttpResponse(pixels, content_type="image/png"))


@for_case_staff
@require_GET
def item_file(request: Any, case_id: UUID, number: int) -> HttpResponse:
    """Give an item of evidence as it was submitted, to be saved."""
    item = _item(case_id, number)
    audit.read(request.user, f"dispute:{case_id}", "evidence", number=number, sha256=bytes(item.sha256).hex())
    return downloads.attachment(bytes(item.content), filetypes.name_of(item))


@for_case_staff
@require_GET
def delivery_file(request: Any, case_id: UUID, number: int) -> HttpResponse:
    """Give a delivery as it came in, to be saved."""
    dispute = casefile.find(case_id)
    row = Delivery.objects.filter(job=dispute.job_id, number=number).first()
    if row is None:
        raise Http404("There is no such delivery.")
    audit.read(request.user, f"dispute:{case_id}", "delivery", number=number, sha256=row.sha256)
    return downloads.attachment(bytes(row.body), f"delivery-{number}")


@for_case_staff
@require_GET
def pack(request: Any, case_id: UUID) -> Any:
    """Give the whole case as a signed pack, read from disk piece by piece."""
    if not request.user.has_perm("disputes.export_case"):
        raise PermissionDenied
    dispute = casefile.find(case_id)
    try:
        answer = downloads.pack(dispute)
    except TryLater as refusal:
        messages.error(request, refusal.detail)
        return to_case(case_id)
    audit.read(request.user, f"dispute:{case_id}", "exported_case")
    return answer


def _item(case_id: UUID, number: int) -> Any:
    item = Evidence.objects.filter(dispute=case_id, number=number).first()
    if item is None:
        raise Http404("There is no such item.")
    if item.content is None:
        raise Http404("This item was erased after its time; its digest stays.")
    return item
