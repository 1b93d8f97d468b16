from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils.dateparse import parse_datetime

from accounts import audit
from accounts.errors import DomainError
from accounts.models import User
from marketplace import incidents
from marketplace.models import Incident

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Declare an outage: until it ends no clock of a job or case runs and no silence fires; then every open deadline"
        " is later by what the outage took. Incidents that are open together count once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        start = verbs.add_parser("start", help="let the clocks stand still")
        start.add_argument("--reason", default="An outage of the platform.", help="what agents read")
        start.add_argument("--since", type=_moment, help="when it began, e.g. 2026-11-21T12:00Z (UTC); default: now")
        start.add_argument("--by", type=_user, metavar="USERNAME", help="who declares it; default: nobody known")
        end = verbs.add_parser("end", help="let them run again")
        end.add_argument("id", type=UUID, nargs="?", help="default: all that were declared")
        end.add_argument("--reason", default="It is over.")
        end.add_argument("--by", type=_user, metavar="USERNAME")
        verbs.add_parser("list", help="show the last ones and whether the clocks run")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['verb']}")(options)
        except DomainError as refusal:
            raise CommandError(f"{refusal.title}. {refusal.detail or ''}".strip()) from None

    def _start(self, options: dict[str, Any]) -> None:
        with transaction.atomic():
            incident = incidents.start(reason=options["reason"], by=options["by"], since=options["since"])
            audit.command("incident start", subject=f"incident:{incident.pk}", reason=options["reason"])
        self.stdout.write(f"incident {incident.pk} is open since {_said(incident.started_at)}: clocks stand still")
        if options["since"] and incident.started_at > options["since"]:
            self.stdout.write("  it begins where the last outage ended: the time before was given back already")

    def _end(self, options: dict[str, Any]) -> None:
        if options["id"]:
            ending = [options["id"]]
        else:
            ending = [incident.pk for incident in incidents.open_now() if not incident.part]
            if not ending:
                self.stdout.write("no declared incident is open: nothing to end")
        for incident_id in ending:
            with transaction.atomic():
                incident = incidents.end(incident_id, by=options["by"], reason=options["reason"])
                audit.command("incident end", subject=f"incident:{incident.pk}", reason=options["reason"])
            self.stdout.write(f"incident {incident.pk} has ended after {_lasted(incident)}")
        self._say_whether_clocks_run()

    def _list(self, options: dict[str, Any]) -> None:
        for incident in Incident.objects.order_by("-started_at", "-pk")[:SHOWN]:
            until = f"until {_said(incident.ended_at)}" if incident.ended_at else "open"
            what = incident.part or "declared"
            self.stdout.write(f"{incident.pk}  {what:<8}  {_said(incident.started_at)} {until}  {incident.reason}")
        self._say_whether_clocks_run()

    def _say_whether_clocks_run(self) -> None:
        since = incidents.standing_since()
        if since is None:
            self.stdout.write("clocks run; deadlines that an outage touched are being moved")
            return
        self.stdout.write(f"clocks stand still since {_said(since)}")
        for incident in incidents.open_now():
            self.stdout.write(f"  incident {incident.pk} ({incident.part or 'declared'}) is open: {incident.reason}")


def _moment(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None:
        raise ValueError(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _user(username: str) -> User:
    found = User.objects.filter(username=username, is_active=True).first()
    if found is None:
        raise CommandError(f"There is no account {username}.")
    return found


def _said(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _lasted(incident: Incident) -> str:
    assert incident.ended_at is not None  # noqa: S101 (it has ended)
    return f"{round((incident.ended_at - incident.started_at).total_seconds()):,} seconds"
