import os
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.errors import DomainError
from disputes import packs
from disputes.models import Dispute


class Command(BaseCommand):
    help = "Write the signed pack of a case into a new file that its owner alone may read."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("case_id", type=UUID)
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, case_id: UUID, out: Path, **options: Any) -> None:
        dispute = Dispute.objects.filter(pk=case_id).first()
        if dispute is None:
            raise CommandError("There is no such case.")
        try:
            file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CommandError(f"{out}: {error.strerror}") from error
        audit.command("export_case", subject=f"dispute:{case_id}")
        try:
            with os.fdopen(file, "wb") as pack:
                packs.write(dispute, pack)
        except DomainError as refusal:
            out.unlink()
            raise CommandError(str(refusal)) from None
        self.stdout.write(f"{out}: case {case_id}")
