"""What the treasury's worker does before it makes processes of itself: open its keys, while the passphrase is there."""

import logging

from celery.signals import worker_init
from django.conf import settings

log = logging.getLogger(__name__)


@worker_init.connect
def open_keys(**_: object) -> None:
    """
    Open the keys in the worker that forks, so that each child has them, the tenth too: a pipe can be read once.

    Keys that do not open stop nothing here: settling goes on without them, and each signature asked for says why.
    """
    if settings.BAILEE_PROCESS != "treasury":
        return
    from escrow.signing import keys  # the treasury process alone can

    try:
        keys.open_all()
    except keys.KeyRefused as refusal:
        log.error("keys_not_opened: %s", refusal)  # noqa: TRY400  the refusal is the whole story
