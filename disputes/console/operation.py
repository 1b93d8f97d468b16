"""Whether the platform is at work, on the home page and above the pages about it: hearts, clocks, webhooks, tasks."""

from datetime import datetime
from typing import Any

from accounts import clock, clockwork
from accounts.events import webhooks
from accounts.models import Alert
from disputes.templatetags.console import duration
from escrow.console.lights import Light
from marketplace import incidents
from marketplace.models import Heartbeat

SEES_INCIDENTS, SEES_TASKS = "marketplace.view_incident", "django_celery_beat.view_periodictask"
PARTS = {"beat": "Beat", "redis": "Redis", "worker": "Workers", "chain": "Chain"}
QUIET_SECONDS, SILENT_SECONDS = 30, 120
_ABOUT_TASKS = (clockwork.LATE, clockwork.FAILING, clockwork.BACKLOG)


def lights(user: Any) -> list[Light]:
    """Gather what this person may see: whether clocks run, and how tasks and webhooks go."""
    found = []
    if user.has_perm(SEES_INCIDENTS):
        found.append(_clocks())
    if user.has_perm(SEES_TASKS):
        found += [heart for heart in hearts(clock.now()) if heart.label.startswith(PARTS["beat"])]
        wrong = Alert.objects.filter(cleared_at=None, kind__in=_ABOUT_TASKS).values("subject").distinct().count()
        found.append(Light(str(wrong), "Tasks late or failing", "late" if wrong else "calm"))
        found.append(_webhooks(clock.now()))
    return found


def hearts(at: datetime) -> list[Light]:
    """Say of each part that was ever seen how long ago that was."""
    seen = dict(Heartbeat.objects.values_list("part", "at"))
    return [_heart(name, seen[part], at) for part, name in PARTS.items() if part in seen]


def _heart(name: str, seen_at: datetime, at: datetime) -> Light:
    seconds = max(int((at - seen_at).total_seconds()), 0)
    tone = "late" if seconds > SILENT_SECONDS else "soon" if seconds > QUIET_SECONDS else "calm"
    return Light(duration(seconds), f"{name} last seen, ago", tone)


def _clocks() -> Light:
    count, since = len(incidents.open_now()), incidents.standing_since()
    if since is None:
        return Light("Run", "Clocks of jobs and cases", "calm")
    return Light("Stand still", f"Clocks, since {since:%Y-%m-%d %H:%M} UTC; open incidents: {count}", "late")


def _webhooks(at: datetime) -> Light:
    health = webhooks.health()
    oldest = health["oldest_due_at"]
    waited = max(int((at - oldest).total_seconds()), 0) if oldest else 0
    said = f"Webhooks failing; {health['due']} deliveries due" + (
        f", the oldest for {duration(waited)}" if oldest else ""
    )
    tone = (
        "late" if waited > 10 * 60 else "soon" if health["failing"] or waited > clockwork.OLDEST_DUE_SECONDS else "calm"
    )
    return Light(str(health["failing"]), said, tone)
