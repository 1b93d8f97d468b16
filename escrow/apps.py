from django.apps import AppConfig
from django.conf import settings


class EscrowConfig(AppConfig):
    """Money: the ledger, what is held for a job, the door to the chain."""

    name = "escrow"
    verbose_name = "Escrow"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import clockwork
        from escrow import (
            chain_books,  # noqa: F401  registers the invariants of deposits and withdrawals
            due,
            withdrawals,
            workers,  # noqa: F401  opens the treasury's keys before its worker forks
        )

        clockwork.register(
            "escrow.tasks.advance_withdrawals", due=clockwork.of_sweeps(withdrawals.COOLED, withdrawals.UNAPPROVED)
        )
        for task, waiting in due.PAYOUTS.items():
            clockwork.register(f"escrow.tasks.{task}", due=waiting, oldest_seconds=settings.PAYOUT_OVERDUE_SECONDS)
