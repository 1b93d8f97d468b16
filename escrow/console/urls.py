"""Where the pages of the treasury are, below the admin."""

from typing import Any

from django.urls import URLPattern, path

from escrow.console import pages, verbs


def under(admin_view: Any) -> list[URLPattern]:
    """Make the addresses, each behind the admin's own door."""
    views = {
        "treasury/": (pages.treasury, "treasury"),
        "treasury/live/": (pages.live, "treasury_live"),
        "treasury/payouts/<uuid:withdrawal_id>/approve/": (verbs.approve, "treasury_approve"),
        "treasury/payouts/<uuid:withdrawal_id>/reject/": (verbs.reject, "treasury_reject"),
        "treasury/payouts/<uuid:withdrawal_id>/call-off/": (verbs.call_off, "treasury_call_off"),
        "treasury/income/": (verbs.platform, "treasury_platform"),
        "treasury/shortfall/cover/": (verbs.cover, "treasury_cover"),
        "treasury/deposits/<uuid:deposit_id>/return/": (verbs.send_back, "treasury_return"),
        "treasury/cold/": (verbs.to_cold, "treasury_cold"),
        "treasury/addresses/<int:treasury_id>/drain/": (verbs.drain, "treasury_drain"),
        "treasury/outflows/<uuid:outflow_id>/attribute/": (verbs.attribute, "treasury_attribute"),
        "treasury/outflows/<uuid:outflow_id>/write-off/": (verbs.write_off, "treasury_write_off"),
        "treasury/switches/<slug:flag>/pause/": (verbs.pause, "treasury_pause"),
        "treasury/switches/<slug:flag>/resume/": (verbs.resume, "treasury_resume"),
    }
    return [path(route, admin_view(view), name=name) for route, (view, name) in views.items()]
