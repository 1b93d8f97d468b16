"""
Celery, and the whole beat schedule.

A task is only an alarm clock: what is due stands in rows, and a task that runs twice at once, late, or not at all
changes nothing but the moment.
"""

import os
from typing import NamedTuple

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("bailee")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# The longest interval of a clock, and of anything.
CLOCK_SECONDS, LONGEST_SECONDS = 60, 7 * 86_400
QUEUES = ("deadlines", "webhooks", "chain", "treasury", "default")


class Every(NamedTuple):
    """
    One periodic task by default: how often, and the queue it rings in. Operators edit the rows in the admin.

    A `clock` of jobs, disputes or payouts is never switched off, nor slowed beyond a minute; the database, which holds
    to that, has its own list of them (`accounts_clock_queue`).
    """

    seconds: int
    task: str
    queue: str
    clock: bool = False

    @property
    def slowest_seconds(self) -> int:
        """The longest interval that operators may give it."""
        return CLOCK_SECONDS if self.clock else max(CLOCK_SECONDS, min(10 * self.seconds, LONGEST_SECONDS))


SCHEDULE = (
    Every(1, "marketplace.tasks.enforce_deadlines", "deadlines", clock=True),
    Every(1, "marketplace.tasks.keep_clock", "deadlines", clock=True),
    Every(1, "disputes.tasks.enforce_deadlines", "deadlines", clock=True),
    Every(1, "escrow.tasks.advance_withdrawals", "deadlines", clock=True),
    Every(10, "accounts.tasks.finish_leaving", "deadlines", clock=True),
    Every(10, "accounts.tasks.stop_suspended", "deadlines", clock=True),
    Every(1, "accounts.tasks.deliver_webhooks", "webhooks"),
    # without it the chain falls silent, and every clock of jobs and cases stands still
    Every(1, "escrow.tasks.scan_deposits", "chain", clock=True),
    Every(1, "escrow.tasks.credit_deposits", "chain"),
    Every(2, "escrow.tasks.authorize_withdrawals", "treasury", clock=True),
    Every(1, "escrow.tasks.relay_transactions", "treasury", clock=True),
    Every(2, "escrow.tasks.settle_withdrawals", "treasury", clock=True),
    Every(5, "escrow.tasks.sweep_deposits", "treasury"),
    Every(2, "escrow.tasks.explain_outflows", "chain"),
    Every(10, "escrow.tasks.recognise_payouts", "chain"),
    Every(60, "escrow.tasks.watch_treasury", "chain"),
    Every(60, "escrow.tasks.look_after_watch", "default"),
    Every(10, "disputes.tasks.assign_cases", "deadlines"),
    Every(60, "disputes.tasks.write_precedents", "default"),
    Every(3_600, "disputes.tasks.erase_evidence", "default"),
    Every(60, "accounts.tasks.seal_audit", "default"),
    Every(10, "accounts.tasks.tell_alerts", "default"),
    Every(60, "accounts.tasks.tell_owners", "default"),
    Every(30, "accounts.tasks.watch_tasks", "default"),
    Every(30, "accounts.tasks.watch_events", "default"),
    Every(3_600, "accounts.tasks.keep_events", "default"),
    Every(3_600, "escrow.tasks.thin_readings", "default"),
    Every(600, "escrow.tasks.check_recent_books", "default"),
    Every(86_400, "escrow.tasks.check_books", "default"),
    Every(3_600, "accounts.tasks.forget_challenges", "default"),
    Every(3_600, "accounts.tasks.forget_answers", "default"),
)
