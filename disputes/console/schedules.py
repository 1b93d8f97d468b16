"""The page of the clockwork: what rings, how it went and what waits; operators set the interval and the switch."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator
from django.http import Http404, HttpResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_http_methods
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from accounts import clock, clockwork, schedules
from accounts.errors import Invalid
from accounts.schedules import Bounds, Setting
from disputes.console import asking, operation
from disputes.console.asking import Question, page
from disputes.console.doors import for_staff_who

MODELS = (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule)
READ, CHANGE = operation.SEES_TASKS, "django_celery_beat.change_periodictask"


def under(guard: Callable[[Any], Any]) -> list[URLPattern]:
    """List the addresses, each behind the console's sign-in."""
    return [
        path("clockwork/", guard(tasks), name="clockwork"),
        path("clockwork/<str:task>/", guard(edit), name="clockwork_task"),
    ]


def take_off(site: admin.AdminSite) -> None:
    """Take django-celery-beat's own pages off the site: they schedule anything, with any arguments."""
    for model in MODELS:
        site.unregister(model)


@for_staff_who(READ)
@require_GET
def tasks(request: Any) -> HttpResponse:
    """Show every periodic task, first those with something wrong."""
    clocks = sorted(clockwork.read(), key=lambda one: not one.wrong)
    return page(
        request,
        "admin/clockwork/tasks.html",
        title="Clockwork",
        clocks=clocks,
        wrong=sum(bool(one.wrong) for one in clocks),
        hearts=operation.hearts(clock.now()),
        most_counted=clockwork.MOST_COUNTED,
        may_change=request.user.has_perm(CHANGE),
    )


class Schedule(asking.Reasoned):
    """How often a task rings, and whether."""

    seconds = forms.IntegerField(label="Rings every … seconds", min_value=1)
    enabled = forms.BooleanField(label="Rings", required=False)
    # as it stood when the page was made: whoever was slower than a colleague looks again
    seen = forms.RegexField(r"\A[0-9]{1,9},[01]\Z", widget=forms.HiddenInput)
    field_order = ["seconds", "enabled", "reason"]

    def __init__(self, data: Any = None, *, bounds: Bounds, setting: Setting, revision: int = 0, **_: Any) -> None:
        seen = f"{setting.seconds},{int(setting.enabled)}"
        super().__init__(data, initial={"key": uuid4(), "revision": revision, "seen": seen, **setting._asdict()})
        seconds, enabled = self.fields["seconds"], self.fields["enabled"]
        seconds.max_value = bounds.slowest_seconds  # type: ignore[attr-defined]
        seconds.validators.append(MaxValueValidator(bounds.slowest_seconds))
        seconds.widget.attrs |= {"max": bounds.slowest_seconds}
        seconds.help_text = f"1 to {bounds.slowest_seconds}."
        enabled.disabled = bounds.is_clock
        enabled.help_text = "A clock of jobs, cases or payouts: it is never switched off." if bounds.is_clock else ""

    def clean_seen(self) -> Setting:
        seconds, enabled = self.cleaned_data["seen"].split(",")
        return Setting(int(seconds), enabled == "1")


@for_staff_who(CHANGE)
@require_http_methods(["GET", "POST"])
def edit(request: Any, task: str) -> HttpResponse:
    """Set how often a task rings, and whether."""
    known = PeriodicTask.objects.select_related("interval")
    row = None if "\x00" in task else known.filter(name=task).first()
    if row is None:
        raise Http404("There is no such task.")
    try:
        bounds = schedules.bounds_of(task)
    except Invalid as refusal:
        raise Http404(refusal.detail) from refusal
    setting = schedules.setting_of(row)
    question = Question(
        title=task,
        button="Set it",
        effect="The beat takes this over within seconds. What is due stays in its rows: a task that rings more seldom"
        " only does it later, and one that is off does not do it at all until it is switched on.",
        facts=[
            ("Queue", row.queue or "–"),
            ("Rings every", f"{setting.seconds} s"),
            ("Is on", "yes" if setting.enabled else "no"),
            ("May ring every", f"1 to {bounds.slowest_seconds} s"),
            ("Clock of jobs, cases or payouts", "yes: never off, never slower than that" if bounds.is_clock else "no"),
        ],
        form=partial(Schedule, bounds=bounds, setting=setting),
        act=lambda said: schedules.change(
            task,
            seconds=said["seconds"],
            enabled=said["enabled"],
            expected=said["seen"],
            by=request.user,
            reason=said["reason"],
        ),
        done="The schedule is set.",
        crumbs=(("Clockwork", reverse("admin:clockwork")),),
    )
    return asking.ask(request, question, back=reverse("admin:clockwork"))
