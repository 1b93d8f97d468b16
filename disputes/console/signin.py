"""How staff sign in: name, password and a code, all at once, and one answer to everything that is wrong."""

import ipaddress
from http import HTTPStatus
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.signals import user_login_failed
from django.core.validators import RegexValidator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import audit, totp
from accounts.edge.requests import client_address
from accounts.models import User


class CodeInput(forms.TextInput):
    """Empty when the page comes back: that code was used, or is wrong."""

    def format_value(self, value: Any) -> None:
        return None


class SignIn(AdminAuthenticationForm):
    # Django's own field has this length on the page alone, and a failure under a longer name fits no row.
    username = UsernameField(
        max_length=User._meta.get_field("username").max_length, widget=forms.TextInput(attrs={"autofocus": True})
    )
    otp_token = forms.CharField(
        label="Code",
        help_text="Six digits, from your authenticator.",
        max_length=7,
        validators=[RegexValidator(r"^[0-9]{3} ?[0-9]{3}$", "A code has six digits.")],
        widget=CodeInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}),
    )
    error_messages = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": "That did not open. Name, password or code is wrong, or the code was used already:"
        " wait for the next one.",
    }

    def confirm_login_allowed(self, user: Any) -> None:
        """Ask for the code too. What fails here counts against the name and the address, as a wrong password does."""
        code = self.cleaned_data.get("otp_token", "").replace(" ", "")
        device = totp.accept(user, code) if user.is_staff and code else None
        if device is None:
            if user.is_staff:
                audit.record("staff.code_refused", user=user, subject=f"user:{user.pk}")
            user_login_failed.send(sender=__name__, credentials={"username": user.get_username()}, request=self.request)
            raise self.get_invalid_login_error()
        user.otp_device = device  # the session that begins is one of this device


def address_of(request: HttpRequest) -> str:
    """Name the address that tries; where a proxy forwards what is none, the proxy's own: the lock has a row for it."""
    address = client_address(request)
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return request.META.get("REMOTE_ADDR", "")


def locked_out(request: HttpRequest, answer: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:
    """Say, after too many tries, how long it lasts and who can end it."""
    wait = settings.AXES_COOLOFF_TIME
    context = {
        **admin.site.each_context(request),
        "title": "Locked for now",
        "minutes": -(-int(wait.total_seconds()) // 60),
        "tries": settings.AXES_FAILURE_LIMIT,
    }
    answer = render(request, "admin/locked.html", context, status=HTTPStatus.TOO_MANY_REQUESTS)
    answer["Retry-After"] = str(int(wait.total_seconds()))
    answer["Cache-Control"] = "no-store"
    return answer
