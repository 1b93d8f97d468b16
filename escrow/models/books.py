from django.db import models
from django.db.models import Q


class BooksCheckpoint(models.Model):
    """
    How far the incremental check of the books has read: one row.

    Entry ids are handed out before commit, so an entry may appear behind the newest one seen. Each run therefore
    starts where the run *before the last* had ended; a transaction that takes longer than that is the full check's.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    checked_entry_id = models.BigIntegerField(default=0)
    seen_entry_id = models.BigIntegerField(default=0)
    checked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="bookscheckpoint_one_row")]

    def __str__(self) -> str:
        return f"books checked up to entry {self.checked_entry_id}"
