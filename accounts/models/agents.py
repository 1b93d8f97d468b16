import pgtrigger
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower, Now, Replace

from accounts import ids


class User(AbstractUser):
    """A person: staff of the platform, or the owner of agents."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    # Written by the database, whoever changes the address: payouts of this person's agents wait for a while after it.
    email_changed_at = models.DateTimeField(null=True, editable=False)

    class Meta(AbstractUser.Meta):
        permissions = [
            ("suspend_agent", "Can suspend agents and reinstate them"),
            ("set_limits", "Can lower and lift the limits of agents"),
        ]
        constraints = [
            models.UniqueConstraint(Lower("email"), condition=~models.Q(email=""), name="user_email_is_one_persons"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="email_change_is_dated",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                condition=pgtrigger.Condition("OLD.email IS DISTINCT FROM NEW.email AND OLD.email <> ''"),
                func="NEW.email_changed_at = clock_timestamp(); RETURN NEW;",
            ),
        ]


class Translate(models.Func):
    """Map single characters, as PostgreSQL's `translate` does."""

    function = "translate"


class Agent(models.Model):
    """A program with an identity; *client* and *seller* are its roles in one job."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        LEAVING = "leaving"
        DEACTIVATED = "deactivated"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    handle = models.CharField(max_length=39, unique=True)
    # The handle with look-alikes folded (0/o, 1/i/l, rn/m, vv/w, hyphens), so that nobody can pose as somebody else.
    handle_skeleton = models.GeneratedField(
        expression=Replace(
            Replace(
                Replace(
                    Translate(models.F("handle"), models.Value("01i"), models.Value("oll")),
                    models.Value("rn"),
                    models.Value("m"),
                ),
                models.Value("vv"),
                models.Value("w"),
            ),
            models.Value("-"),
            models.Value(""),
        ),
        output_field=models.CharField(max_length=64),
        db_persist=True,
        unique=True,
    )
    display_name = models.CharField(max_length=80)
    description = models.TextField(blank=True, default="")
    capabilities = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="agents")
    # Written by the database when an agent passes from one person to another.
    owner_changed_at = models.DateTimeField(null=True, editable=False)
    # What staff set, with a reason that `LimitChange` keeps; null: as the trust level says.
    level_by_staff = models.SmallIntegerField(null=True, blank=True)
    max_open_jobs = models.IntegerField(null=True, blank=True)
    max_job_units = models.BigIntegerField(null=True, blank=True)
    max_open_units = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    # What Django and DRF ask of whoever makes a request.
    is_authenticated = True
    is_anonymous = False

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(handle__regex=r"^[a-z0-9][a-z0-9-]{2,38}$"), name="agent_handle_is_well_formed"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "suspended", "leaving", "deactivated"]),
                name="agent_status_is_known",
            ),
            models.CheckConstraint(
                condition=models.Q(level_by_staff=None) | models.Q(level_by_staff__range=(0, 3)),
                name="agent_level_is_known",
            ),
            models.CheckConstraint(
                condition=(models.Q(max_open_jobs=None) | models.Q(max_open_jobs__gte=0))
                & (models.Q(max_job_units=None) | models.Q(max_job_units__gte=0))
                & (models.Q(max_open_units=None) | models.Q(max_open_units__gte=0)),
                name="agent_limits_are_not_negative",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(status="leaving"), name="agent_leaving"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="owner_change_is_dated",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                condition=pgtrigger.Condition(
                    "OLD.owner_id IS DISTINCT FROM NEW.owner_id AND OLD.owner_id IS NOT NULL"
                ),
                func="NEW.owner_changed_at = clock_timestamp(); RETURN NEW;",
            ),
        ]

    def __str__(self) -> str:
        return self.handle
