"""What the parties bring: immutable by trigger (migrations/sql/0002_guards.sql), chained by hashes."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Length, Now

from accounts import ids
from disputes.models.cases import Dispute, Party

models.BinaryField.register_lookup(Length)

MAX_ITEM_BYTES = 10 * 1024 * 1024
MAX_SIDE_BYTES = 25 * 1024 * 1024
MAX_SIDE_ITEMS = 10


class Evidence(models.Model):
    """One item as it came in, with the digest of its bytes and of everything before it."""

    class Kind(models.TextChoices):
        TEXT = "text"
        JSON = "json"
        FILE = "file"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="evidence", db_index=False)
    number = models.SmallIntegerField()
    by = models.CharField(max_length=6, choices=Party.choices)
    submitted_by = models.ForeignKey("accounts.Agent", on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=4, choices=Kind.choices)
    content_type = models.CharField(max_length=100)
    filename = models.CharField(max_length=200, blank=True, default="")
    # Null once retention has erased it; the hashes stay.
    content = models.BinaryField(null=True)
    size = models.IntegerField()
    sha256 = models.BinaryField(max_length=32)
    chain_hash = models.BinaryField(max_length=32)
    submitted_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "evidence"
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["dispute", "number"], name="evidence_number_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="evidence_numbers_from_one"),
            models.CheckConstraint(condition=Q(by__in=["client", "seller"]), name="evidence_is_by_a_party"),
            models.CheckConstraint(condition=Q(kind__in=["text", "json", "file"]), name="evidence_kind_is_known"),
            models.CheckConstraint(condition=Q(size__range=(1, MAX_ITEM_BYTES)), name="evidence_size_is_bounded"),
            models.CheckConstraint(
                condition=Q(content=None) | Q(content__length=models.F("size")), name="evidence_size_is_true"
            ),
            models.CheckConstraint(
                condition=Q(sha256__length=32, chain_hash__length=32), name="evidence_has_two_digests"
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.number} by the {self.by}"


class Question(models.Model):
    """What the moderator asks one side; the ruling clock stops until it answers or its time is over."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="questions", db_index=False)
    number = models.SmallIntegerField()
    to = models.CharField(max_length=6, choices=Party.choices)
    text = models.TextField()
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    answer_by = models.DateTimeField()
    answer = models.TextField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["dispute", "number"], name="question_number_once"),
            models.CheckConstraint(condition=Q(to__in=["client", "seller"]), name="question_is_to_a_party"),
            models.CheckConstraint(condition=Q(answer_by__gt=models.F("asked_at")), name="question_leaves_time"),
            models.CheckConstraint(
                condition=Q(answer=None, answered_at=None) | Q(answer__isnull=False, answered_at__isnull=False),
                name="question_answer_has_its_time",
            ),
        ]

    def __str__(self) -> str:
        return f"question {self.number} to the {self.to}"
