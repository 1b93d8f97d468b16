"""What every verb of staff asks of whoever uses it: that they may, and that they say why."""

from accounts.errors import Invalid, NotAllowed
from accounts.models import User

REASON_CHARS = (20, 500)


def require(by: User, permission: str, *, reason: str) -> str:
    """
    Let somebody act who works here, has the permission and gives a reason; answers the reason, trimmed.

    :raises NotAllowed: otherwise; :raises Invalid: for a reason of less than 20 or more than 500 characters
    """
    if not (by.is_active and by.is_staff and by.has_perm(permission)):
        raise NotAllowed("Your account may not do this.")
    least, most = REASON_CHARS
    if not least <= len(reason.strip()) <= most:
        raise Invalid.at("/reason", "length", f"Say why, in {least} to {most} characters.")
    return reason.strip()
