"""The staff's site: Django's admin, whose home is the work that waits and whose rows nobody edits."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
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

    def get_urls(self) -> list[URLPattern | URLResolver]:
        from disputes.console import pages  # the apps' models are loaded by now, and not when this module is
        from escrow.console import urls as treasury

        cases = [
            path("cases/", self.admin_view(pages.queue), name="cases"),
            path("cases/<uuid:case_id>/", self.admin_view(pages.case), name="case"),
            path("cases/<uuid:case_id>/take/", self.admin_view(pages.take), name="case_take"),
            path("cases/<uuid:case_id>/preview/", self.admin_view(pages.preview), name="case_preview"),
            path("cases/<uuid:case_id>/ruling/", self.admin_view(pages.ruling), name="case_ruling"),
            path("cases/<uuid:case_id>/ruling/confirm/", self.admin_view(pages.confirm), name="case_confirm"),
        ]
        return cases + treasury.under(self.admin_view) + super().get_urls()

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from disputes.console import desk

        return super().index(request, desk.context(request) | (extra_context or {}))
