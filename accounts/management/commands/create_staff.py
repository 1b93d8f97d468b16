import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import staff


class Command(BaseCommand):
    help = (
        "Make the groups of staff and, with --username, an account in one or more of them. The password comes from a"
        " file or from standard input (-), never from the command line. Safe to run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username")
        parser.add_argument("--group", action="append", default=[], choices=list(staff.GROUPS))
        parser.add_argument("--email", default="")
        parser.add_argument("--password-file", help="a file that holds the password, or - for standard input")
        parser.add_argument("--superuser", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        staff.prepare_groups()
        if not options["username"]:
            self.stdout.write(f"groups: {', '.join(staff.GROUPS)}")
            return
        try:
            user = staff.prepare_account(
                options["username"],
                groups=options["group"],
                password=_password(options["password_file"]),
                email=options["email"],
                superuser=options["superuser"],
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{user.username}: {', '.join(options['group']) or 'no group'}")


def _password(source: str | None) -> str | None:
    if source is None:
        return None
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except OSError as error:
        raise CommandError(f"The password cannot be read: {error}") from error
    if not text.strip():
        raise CommandError("The password is empty.")
    return text.strip()
