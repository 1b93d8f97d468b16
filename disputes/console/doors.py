"""Who a page of the console is for: the site lets staff in, each page asks for its own permission."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse


def for_staff_who(permission: str) -> Callable[[Any], Any]:
    """Refuse whoever lacks the permission, reading and acting alike."""

    def door(view: Any) -> Any:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return door
