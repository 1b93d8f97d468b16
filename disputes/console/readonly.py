"""
Every row of ours, to be read by whoever may see it and edited by nobody.

Staff have verbs, not fields: there is no form for a row of money, jobs, cases or people, for superusers neither.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import unquote

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.exceptions import BadRequest
from django.db import models
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.html import format_html
from django.views.decorators.http import require_safe
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.edge.fields import units_to_text
from accounts.text import visible

APPS = ("accounts", "escrow", "marketplace", "disputes")
# Never on a page: secrets, digests of secrets, answers that hold what a party was told, and bytes that have pages of
# their own.
HIDDEN_MODELS = {"accounts.IdempotencyRecord", "accounts.Challenge"}
HIDDEN_FIELDS = {
    "accounts.User": {"password"},
    "accounts.Token": {"digest"},
    "escrow.DepositAddress": {"salt"},
    "disputes.Evidence": {"content"},
    "disputes.Precedent": {"words"},
    "marketplace.Delivery": {"body"},
    "marketplace.Listing": {"words"},
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "accounts.Agent": ("handle", "display_name", "status", "owner", "created_at"),
    "accounts.User": ("username", "email", "is_staff", "is_superuser", "is_active", "last_login"),
    "accounts.Token": ("prefix", "agent", "label", "created_at", "expires_at", "revoked_at"),
    "accounts.AuditRecord": ("id", "action", "user", "agent", "subject", "address", "occurred_at"),
    "accounts.Suspension": ("agent", "suspended_by", "suspended_at", "lifted_by", "lifted_at"),
    "accounts.LimitChange": (
        *("agent", "level_by_staff", "max_open_jobs", "max_job_units", "max_open_units", "by", "at"),
    ),
    "accounts.Event": ("id", "type", "recipient", "occurred_at"),
    "escrow.LedgerAccount": ("kind", "owner_key", "balance", "version"),
    "escrow.Transfer": ("reference", "kind", "occurred_at", "actor", "entry_count"),
    "escrow.Entry": ("id", "transfer", "account", "amount", "balance_after"),
    "marketplace.Job": ("id", "client", "seller", "state", "price_units", "deadline_at", "deadline_action"),
    "marketplace.Offer": ("job_id", "number", "author", "terms_hash", "expires_at"),
    "marketplace.Delivery": ("job_id", "number", "size", "content_type", "delivered_at"),
    "marketplace.Transition": ("job_id", "action", "by", "from_state", "to_state", "occurred_at"),
    "marketplace.Listing": ("title", "seller", "price_units", "status", "created_at"),
    "disputes.Dispute": ("id", "state", "reason", "client", "seller", "price_units", "assigned_to", "deadline_at"),
    "disputes.Evidence": ("dispute_id", "number", "by", "kind", "size", "submitted_at"),
    "disputes.Ruling": ("dispute_id", "number", "standing", "author", "is_default", "seller_bps", "ruled_at"),
    "disputes.RulingApproval": ("ruling", "by", "decision", "decided_at"),
    "disputes.Appeal": ("dispute_id", "by", "filed_at", "decide_by", "outcome", "decided_by", "decided_at"),
    "disputes.Question": ("dispute_id", "number", "to", "asked_by", "asked_at", "answer_by", "answered_at"),
    "disputes.Assignment": ("dispute_id", "to", "how", "by", "at"),
    "disputes.Precedent": ("reason", "category", "price_band", "seller_bps", "redo", "is_default", "decided_at"),
    "disputes.DisputeTransition": ("dispute_id", "action", "by", "from_state", "to_state", "occurred_at"),
}
FILTERS: dict[str, tuple[str, ...]] = {
    "accounts.Agent": ("status",),
    "accounts.Alert": ("kind",),
    "escrow.Deposit": ("state",),
    "escrow.LedgerAccount": ("kind",),
    "escrow.Outflow": ("explanation",),
    "escrow.Withdrawal": ("state", "owner"),
    "marketplace.Job": ("state",),
    "marketplace.Listing": ("status",),
    "disputes.Dispute": ("state", "reason"),
    "disputes.Ruling": ("standing", "is_default"),
    "disputes.Assignment": ("how",),
    "disputes.Precedent": ("reason", "category", "price_band", "is_default"),
}
SEARCH: dict[str, tuple[str, ...]] = {
    "accounts.Agent": ("handle", "=id"),
    "accounts.User": ("username",),
    "accounts.AuditRecord": ("=subject", "=user__username", "=agent__handle"),
    "accounts.LimitChange": ("agent__handle",),
    "accounts.Suspension": ("agent__handle",),
    "disputes.Assignment": ("=dispute__id", "=to__username"),
    "escrow.LedgerAccount": ("=owner_key",),
    "escrow.Transfer": ("=reference",),
    "marketplace.Job": ("=id", "client__handle", "seller__handle"),
    "disputes.Dispute": ("=id", "=job__id", "client__handle", "seller__handle"),
}


class ReadOnly(admin.ModelAdmin):
    """Rows to look at. Text of strangers is shown with its hidden characters visible."""

    actions = None
    show_full_result_count = False
    list_per_page = 50
    ordering = ("-pk",)

    def get_urls(self) -> list[URLPattern]:
        """Answer to readers alone, whoever asks."""
        urls = super().get_urls()
        for url in urls:
            url.callback = require_safe(_without_zeros(url.callback))
        return urls

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Refuse to filter by what is on no page: whoever may ask how a secret begins reads it, letter by letter."""
        hidden = HIDDEN_FIELDS.get(self.model._meta.label, set())
        return lookup.partition("__")[0] not in hidden and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [_shown_as(field) for field in _fields_of(self.model)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)


def _without_zeros(view: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a zero byte, which no text in the database has: it would not look for one, but break off."""

    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "\x00" in request.path or "\x00" in unquote(request.META.get("QUERY_STRING", "")):
            raise BadRequest("A zero byte is in no row.")
        return view(request, *args, **kwargs)

    return page


def register_all(site: admin.AdminSite) -> None:
    """Give every model of ours its read-only pages, and Django's groups too."""
    if site.is_registered(Group):
        site.unregister(Group)
    if site.is_registered(TOTPDevice):
        site.unregister(TOTPDevice)  # django-otp's pages show the secret, as text and to scan
    site.register(Group, type("GroupAdmin", (ReadOnly,), {"list_display": ("name",), "ordering": ("name",)}))
    for label in APPS:
        for model in apps.get_app_config(label).get_models():
            if model._meta.label not in HIDDEN_MODELS:
                site.register(model, _admin_for(model))


def _admin_for(model: type[models.Model]) -> type[ReadOnly]:
    label = model._meta.label
    columns = COLUMNS.get(label) or tuple(field.name for field in _fields_of(model)[:6])
    shown = {_shown_as(field): _text_of(field) for field in _fields_of(model) if _is_special(field)}
    relations = [name for name in columns if _is_relation(model, name)]
    return type(
        f"{model.__name__}Admin",
        (ReadOnly,),
        {
            "list_display": tuple(f"{name}_shown" if f"{name}_shown" in shown else name for name in columns),
            "list_filter": FILTERS.get(label, ()),
            "search_fields": SEARCH.get(label, ()),
            "list_select_related": relations or False,
            **shown,
        },
    )


_SHOWN_SPECIALLY = (models.TextField, models.JSONField, models.BinaryField)
# Short texts of strangers: hidden characters are made visible where they come in, and once more where they are shown.
_OF_STRANGERS = {"display_name", "capabilities", "title", "skills", "label", "filename", "content_type", "detail"}
_AMOUNTS = {
    ("escrow.LedgerAccount", "balance"),
    ("escrow.Entry", "amount"),
    ("escrow.Entry", "balance_after"),
}


def _fields_of(model: type[models.Model]) -> list[models.Field]:
    hidden = HIDDEN_FIELDS.get(model._meta.label, set())
    return [field for field in model._meta.concrete_fields if field.name not in hidden]


def _shown_as(field: models.Field) -> str:
    return f"{field.name}_shown" if _is_special(field) else field.name


def _is_special(field: models.Field) -> bool:
    return isinstance(field, _SHOWN_SPECIALLY) or field.name in _OF_STRANGERS or _is_amount(field)


def _is_amount(field: models.Field) -> bool:
    return field.name.endswith("_units") or (field.model._meta.label, field.name) in _AMOUNTS


def _text_of(field: models.Field) -> Any:
    def text(self: ReadOnly, row: Any) -> str:
        value = getattr(row, field.name)
        if value is None:
            return "-"
        if _is_amount(field):
            return f"{units_to_text(value)} USDC"
        if isinstance(field, models.BinaryField):
            return bytes(value).hex()
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        return format_html('<span class="party-text">{}</span>', visible(str(value)))

    text.short_description = str(field.verbose_name).removesuffix(" units")  # type: ignore[attr-defined]
    text.admin_order_field = field.name  # type: ignore[attr-defined]
    return text


def _is_relation(model: type[models.Model], name: str) -> bool:
    return any(field.name == name and field.is_relation for field in model._meta.concrete_fields)
