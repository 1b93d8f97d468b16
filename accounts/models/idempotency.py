from django.db import models
from django.db.models.functions import Now


class IdempotencyRecord(models.Model):
    """The answer that one key already got, stored in the transaction of its effect."""

    scope = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    # SHA-256 over method, path and body.
    fingerprint = models.BinaryField(max_length=32)
    status = models.SmallIntegerField()
    # JSON as it was sent, byte for byte: jsonb would give the keys back in another order.
    answer = models.TextField(null=True)
    # Keys of money never expire, the others after a day.
    keep = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_once")]
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(keep=False), name="idempotency_expiring"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"
