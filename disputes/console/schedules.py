"""The beat schedule, which operators edit in the admin: the only rows with forms, and so each edit is audited here."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models, transaction
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from accounts import audit

MODELS = (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule)
# Actions on several rows that change them; others only ring a bell, and no transaction may be around that.
_CHANGING = ("enable_tasks", "disable_tasks", "toggle_tasks")


class Audited:
    """Write each edit to the audit log, in the transaction of the edit. Before django-celery-beat's own admin."""

    model: type[models.Model]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = _state(obj) if change else None
        super().save_model(request, obj, form, change)  # type: ignore[misc]
        _write(request, "changed" if change else "added", obj, before=before, fields=sorted(form.changed_data))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        _write(request, "deleted", obj, before=_state(obj), gone=True)
        super().delete_model(request, obj)  # type: ignore[misc]

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            _write(request, "deleted", row, before=_state(row), gone=True)
        super().delete_queryset(request, queryset)  # type: ignore[misc]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)  # type: ignore[misc]
        return {
            name: (act if name == "delete_selected" else _audited(name, act), *rest)
            for name, (act, *rest) in actions.items()
        }


def register_all(site: admin.AdminSite) -> None:
    """Put the audit before what django-celery-beat has registered."""
    for model in MODELS:
        own = type(site.get_model_admin(model))
        site.unregister(model)
        site.register(model, type(f"Audited{own.__name__}", (Audited, own), {}))


def _audited(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    @transaction.atomic
    def change(modeladmin: Any, request: HttpRequest, queryset: Any) -> Any:
        rows = [(row, _state(row)) for row in queryset]
        answer = act(modeladmin, request, queryset)
        for row, before in rows:
            _write(request, name, type(row).objects.get(pk=row.pk), before=before)
        return answer

    def ring(modeladmin: Any, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            _write(request, name, row)
        return act(modeladmin, request, queryset)

    return change if name in _CHANGING else ring


def _state(row: Any) -> dict[str, Any] | None:
    """Read the row as it is stored: the form has changed the one in hand already."""
    stored = type(row).objects.filter(pk=row.pk).first()
    return audit.state_of(stored) if stored else None


def _write(
    request: Any, action: str, row: Any, *, before: dict[str, Any] | None = None, gone: bool = False, **facts: Any
) -> None:
    audit.record(
        f"schedule.{action}",
        user=request.user,
        subject=f"schedule:{type(row)._meta.model_name}:{row.pk}",
        before=before,
        after=None if gone else audit.state_of(row),
        facts={"name": str(row)[:200], **facts},
    )
