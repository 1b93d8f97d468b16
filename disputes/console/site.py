"""The staff's site: Django's admin, whose home is the work that waits and whose rows nobody edits."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

if TYPE_CHECKING:
    from django.contrib.auth.forms import AuthenticationForm


class Console(admin.AdminSite):
    site_title = "Bailee console"
    site_header = "Bailee"
    index_title = "Your desk"
    index_template = "admin/home.html"
    site_url = "/docs"
    login_template = "admin/login.html"

    @property
    def login_form(self) -> "type[AuthenticationForm]":  # type: ignore[override]
        from disputes.console import signin

        return signin.SignIn

    def has_permission(self, request: HttpRequest) -> bool:
        """Open to staff in service who gave a code as well as a password."""
        user: Any = request.user
        return super().has_permission(request) and user.is_verified()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        from disputes.console import links

        return super().each_context(request) | {"console_links": links.of(request)}

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        from accounts import audit

        answer = super().password_change(request, extra_context)
        if answer.status_code == HTTPStatus.FOUND and request.user.is_authenticated:
            audit.record("staff.password_changed", user=request.user, subject=f"user:{request.user.pk}")
        return answer

    def get_urls(self) -> list[URLPattern | URLResolver]:
        from disputes.console import agents, auditlog, incidents, precedents, report, schedules
        from disputes.console import urls as cases  # the apps' models are loaded by now, and not when this module is
        from escrow.console import urls as treasury

        parts = (agents, auditlog, report, cases, precedents, treasury, schedules, incidents)
        ours = [url for pages in parts for url in pages.under(self.admin_view)]
        return [*ours, path("r/<path:row>", self.admin_view(_nowhere)), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from disputes.console import desk

        return super().index(request, desk.context(request) | (extra_context or {}))


def _nowhere(request: HttpRequest, row: str) -> HttpResponse:
    """Stand where Django's admin leads to a row's page outside: none of ours has one, and its look-up breaks on ids."""
    raise Http404("Rows have no pages outside of the console.")
