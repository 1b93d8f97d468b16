"""Addresses of the case pages, all under /admin/cases/."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path

from disputes.console import exhibits, pages, queue_pages, verbs


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List them, each behind the console's sign-in."""
    here = "cases/<uuid:case_id>/"
    return [
        path("cases/", guard(queue_pages.queue), name="cases"),
        path("cases/next/", guard(verbs.take_next), name="case_next"),
        path(here, guard(pages.case), name="case"),
        path(f"{here}preview/", guard(pages.preview), name="case_preview"),
        path(f"{here}ruling/", guard(pages.ruling), name="case_ruling"),
        path(f"{here}ruling/confirm/", guard(pages.confirm), name="case_confirm"),
        path(f"{here}take/", guard(verbs.take), name="case_take"),
        path(f"{here}recuse/", guard(verbs.recuse), name="case_recuse"),
        path(f"{here}reassign/", guard(verbs.reassign), name="case_reassign"),
        path(f"{here}question/", guard(verbs.question), name="case_question"),
        path(f"{here}approve/", guard(verbs.approve), name="case_approve"),
        path(f"{here}send-back/", guard(verbs.send_back), name="case_send_back"),
        path(f"{here}uphold/", guard(verbs.uphold), name="case_uphold"),
        path(f"{here}evidence/<int:number>/image/", guard(exhibits.picture), name="case_picture"),
        path(f"{here}evidence/<int:number>/file/", guard(exhibits.item_file), name="case_item"),
        path(f"{here}deliveries/<int:number>/file/", guard(exhibits.delivery_file), name="case_delivery"),
        path(f"{here}pack/", guard(exhibits.pack), name="case_pack"),
    ]
