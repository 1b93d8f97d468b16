from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import audit, pauses
from accounts.errors import DomainError


class Command(BaseCommand):
    help = "Pause new business of a kind where no page is open, as after a restore. Only people resume, on their page."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("flag", choices=pauses.Flag.values, nargs="+")
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        for flag in options["flag"]:
            try:
                with transaction.atomic():
                    pauses.pause(flag, reason=options["reason"], cause="operator")
                    audit.command("pause", subject=f"pause:{flag}", reason=options["reason"])
            except pauses.AlreadySet:
                self.stdout.write(f"{flag} was paused already")
            except DomainError as refusal:
                raise CommandError(str(refusal)) from None
            else:
                self.stdout.write(f"{flag} is paused")
