import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import staff, totp
from accounts.models import User


class Command(BaseCommand):
    help = (
        "Make the groups of staff and, with --username, an account in one or more of them. The password comes from a"
        " file or from standard input (-), never from the command line. Nobody signs in without codes: their secret"
        " goes to --totp-file, or once to the terminal as the otpauth:// address that authenticators scan or take."
        " Safe to run again: who has a code generator keeps it, unless --new-totp says otherwise. --new-totp alone"
        " leaves everything else of the account as it is; --dismiss ends an account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username")
        parser.add_argument("--group", action="append", default=[], choices=list(staff.GROUPS))
        parser.add_argument("--email", default="")
        parser.add_argument("--password-file", help="a file that holds the password, or - for standard input")
        parser.add_argument("--totp-file", type=Path, help="the file (0600) to write the secret of the codes to")
        parser.add_argument("--new-totp", action="store_true", help="the phone is lost: end its codes, begin new ones")
        parser.add_argument("--dismiss", action="store_true", help="they work here no longer: nothing signs them in")
        parser.add_argument("--superuser", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        staff.prepare_groups()
        if not options["username"]:
            self.stdout.write(f"groups: {', '.join(staff.GROUPS)}")
            return
        try:
            if options["dismiss"]:
                self.stdout.write(f"{staff.dismiss(options['username'])}: dismissed")
                return
            user = self._account(options)
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['username']}.") from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{user.username}: {', '.join(str(group) for group in user.groups.all()) or 'no group'}")
        if options["new_totp"] or not totp.has_device(user):
            self._give_codes(user, options["totp_file"])

    def _account(self, options: dict[str, Any]) -> User:
        others = ("group", "superuser", "password_file", "email")
        if options["new_totp"] and not any(options[name] for name in others):
            return User.objects.get(username=options["username"], is_staff=True)
        return staff.prepare_account(
            options["username"],
            groups=options["group"],
            password=_password(options["password_file"]),
            email=options["email"],
            superuser=options["superuser"],
        )

    def _give_codes(self, user: User, file: Path | None) -> None:
        if file:
            with transaction.atomic():  # a secret that nobody could read is not kept
                _write(file, totp.secret(totp.replace(user)))
            self.stdout.write(f"the secret of the codes is in {file}")
        elif self.stdout.isatty():
            self.stdout.write("Scan or type this into the authenticator now; it is not shown again:")
            self.stdout.write(totp.replace(user).config_url)
        else:
            raise CommandError(
                f"{user.username} cannot sign in yet: name a --totp-file for the secret of the codes, or run this at a"
                " terminal."
            )


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


def _write(file: Path, secret: str) -> None:
    """Write for the owner alone; whoever reads finds the old secret or the new one, never half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
            text.write(f"{secret}\n")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CommandError(f"The secret of the codes cannot be written: {error}") from error
