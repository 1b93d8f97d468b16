"""The people who run the platform: groups, what each may do, and their accounts."""

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import Q

from accounts import audit, totp
from accounts.models import User

# Nobody has a permission to add, change or delete a row of money, jobs, cases or people: staff have verbs.
# Operators set how often each periodic task rings, and declare incidents.
_SEES_CASES = (
    *("disputes.view_*", "disputes.export_case", "marketplace.view_*"),
    *("accounts.view_agent", "accounts.view_suspension", "accounts.view_limitchange"),
)
GROUPS: dict[str, tuple[str, ...]] = {
    "Moderators": (*_SEES_CASES, "disputes.rule", "disputes.approve"),
    "Senior moderators": (
        *(*_SEES_CASES, "disputes.rule", "disputes.approve", "disputes.hear_appeals", "disputes.read_report"),
        *("accounts.suspend_agent", "accounts.set_limits", "marketplace.declare_incident"),
    ),
    "Treasurers": (
        *("escrow.view_*", "escrow.approve_*", "accounts.view_agent"),
        *("accounts.set_pause", "accounts.view_pause", "accounts.view_pausechange", "accounts.view_alert"),
        *("marketplace.declare_incident", "marketplace.view_incident"),
    ),
    "Auditors": (
        *("accounts.view_*", "escrow.view_*", "marketplace.view_*", "disputes.view_*"),
        *("disputes.export_case", "disputes.read_report"),
    ),
    "Operators": (
        *("django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask"),
        *("marketplace.declare_incident", "marketplace.view_incident"),
        *("accounts.view_agent", "accounts.view_alert", "escrow.view_*"),
    ),
}


@transaction.atomic
def prepare_groups() -> None:
    """Make the groups, or bring them to what stands above; safe to run again."""
    for name, wanted in GROUPS.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.set(Permission.objects.filter(_matching(wanted)))


def prepare_account(
    username: str,
    *,
    groups: Iterable[str],
    password: str | None = None,
    email: str = "",
    superuser: bool = False,
) -> User:
    """
    Make a member of staff, or bring one to these groups; without a password a new account cannot sign in.

    :raises django.core.exceptions.ValidationError: if the password is too weak
    :raises KeyError: for a group that does not exist
    """
    groups = list(groups)
    user = User.objects.filter(username=username).first() or User(username=username)
    user.is_staff = user.is_active = True
    user.is_superuser = superuser
    if email:
        user.email = email
    if password is not None and not user.check_password(password):
        validate_password(password, user)
        user.set_password(password)
    elif not user.password:
        user.set_unusable_password()
    # Hashing a password takes its time: it was done before the transaction.
    with transaction.atomic():
        user.save()
        user.groups.set([_group(name) for name in groups])
        audit.record(
            "staff.prepared",
            subject=f"user:{user.pk}",
            facts={"command": "create_staff", "groups": sorted(groups), "superuser": superuser},
        )
    return user


@transaction.atomic
def dismiss(username: str) -> User:
    """
    End an account: its sessions, codes and groups end, its name stays on what it did, its open cases go to others.

    :raises User.DoesNotExist: if there is no such account
    """
    user = User.objects.select_for_update().get(username=username, is_staff=True)
    user.is_active = user.is_superuser = False
    user.save(update_fields=["is_active", "is_superuser"])
    user.groups.clear()
    user.user_permissions.clear()
    totp.withdraw(user)
    audit.record("staff.dismissed", subject=f"user:{user.pk}", facts={"command": "create_staff"})
    return user


def _group(name: str) -> Group:
    if name not in GROUPS:
        raise KeyError(name)
    return Group.objects.get(name=name)


def _matching(wanted: Iterable[str]) -> Q:
    found = Q(pk=None)
    for permission in wanted:
        label, codename = permission.split(".")
        among = Q(content_type__app_label=label)
        if codename.endswith("*"):
            found |= among & Q(codename__startswith=codename.removesuffix("*"))
        else:
            found |= among & Q(codename=codename)
    return found
