"""Where a request comes from, for the audit log to write down."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from accounts import audit
from accounts.edge import requests

MAX_ADDRESS = 64  # as long as the column of the log: a proxy may say what it likes


class Origin:
    """Tell the audit log the client's address and the id of the request, for as long as it is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        come_from = (requests.client_address(request)[:MAX_ADDRESS], requests.request_id(request))
        before = audit.origin.set(come_from)
        try:
            return self.get_response(request)
        finally:
            audit.origin.reset(before)
