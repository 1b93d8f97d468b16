"""Alarm clocks: what is due stands in rows, so each may run twice, late, or never."""

from celery import shared_task, signals

from accounts import alert_messages, audit, challenges, clockwork, departures, idempotency, suspensions
from accounts.events import courier, notices, retention, watch, webhooks


@shared_task(queue="deadlines", ignore_result=True)
def finish_leaving(**_: object) -> None:
    """Finish the departure of agents that are leaving."""
    departures.finish_all()


@shared_task(queue="deadlines", ignore_result=True)
def stop_suspended(**_: object) -> None:
    """End the unfunded business of agents that are suspended."""
    suspensions.stop_all()


@shared_task(queue="default", ignore_result=True)
def forget_challenges(**_: object) -> None:
    """Delete challenges that can do nothing any more."""
    challenges.forget()


@shared_task(queue="default", ignore_result=True)
def forget_answers(**_: object) -> None:
    """Delete the stored answers of ordinary idempotency keys after a day."""
    idempotency.forget_expired()


@shared_task(queue="default", ignore_result=True)
def tell_alerts(**_: object) -> None:
    """Tell operators of alerts that began or are over."""
    alert_messages.tell_due()


@shared_task(queue="default", ignore_result=True)
def tell_owners(**_: object) -> None:
    """Tell owners of webhook endpoints that we disabled."""
    notices.tell_due()


@shared_task(queue="default", ignore_result=True)
def seal_audit(**_: object) -> None:
    """Link what was written to the audit log, and publish the head."""
    audit.keep_sealed()


@shared_task(queue="default", ignore_result=True)
def watch_tasks(**_: object) -> None:
    """Say which periodic tasks are late, fail, or leave things lying."""
    clockwork.look()


@shared_task(queue="webhooks", ignore_result=True)
def deliver_webhooks(**_: object) -> None:
    """Have a thread of this process send what is due to webhook endpoints."""
    courier.ring()


# With a pool of processes the one, without the other.
@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _stop_delivering(**_: object) -> None:
    courier.stop()


@shared_task(queue="default", ignore_result=True)
def keep_events(**_: object) -> None:
    """Make the months of events to come, and drop those that are older than they are kept."""
    webhooks.end_strays()
    retention.keep()


@shared_task(queue="default", ignore_result=True)
def watch_events(**_: object) -> None:
    """Say whether something holds the feed of events back, or nobody makes its months."""
    watch.look()
