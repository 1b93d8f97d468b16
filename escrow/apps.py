from django.apps import AppConfig


class EscrowConfig(AppConfig):
    """Money: the ledger, what is held for a job, the door to the chain."""

    name = "escrow"
    verbose_name = "Escrow"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from escrow import (
            chain_books,  # noqa: F401  registers the invariants of deposits and withdrawals
            workers,  # noqa: F401  opens the treasury's keys before its worker forks
        )
