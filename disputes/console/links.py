"""The way through the console: the pages at the top of every page, each for who may open it."""

from typing import NamedTuple

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


class Link(NamedTuple):
    name: str
    address: str
    is_here: bool


# name, page, permission
PAGES = (
    ("Desk", "admin:index", ""),
    ("Cases", "admin:cases", "disputes.view_dispute"),
    ("Agents", "admin:agents", "accounts.view_agent"),
    ("Treasury", "admin:treasury", "escrow.view_treasury"),
    ("Precedents", "admin:precedents", "disputes.view_precedent"),
    ("Report", "admin:report", "disputes.read_report"),
    ("Audit", "admin:audit_log", "accounts.view_auditrecord"),
    ("Clockwork", "admin:clockwork", "django_celery_beat.view_periodictask"),
    ("Incidents", "admin:incidents", "marketplace.view_incident"),
)


def of(request: HttpRequest) -> list[Link]:
    """List the pages that exist and this person may open."""
    user = request.user
    return [
        Link(name, address, _is_here(request.path, address))
        for name, page, permission in PAGES
        if (not permission or user.has_perm(permission)) and (address := _address(page))
    ]


def _address(page: str) -> str | None:
    try:
        return reverse(page)
    except NoReverseMatch:
        return None


def _is_here(path: str, address: str) -> bool:
    return path == address or (address != reverse("admin:index") and path.startswith(address))
