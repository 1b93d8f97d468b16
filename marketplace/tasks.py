from celery import shared_task

from marketplace import deadlines, incidents


@shared_task(queue="deadlines", ignore_result=True)
def enforce_deadlines() -> None:
    deadlines.enforce_due()


@shared_task(queue="deadlines", ignore_result=True)
def keep_clock() -> None:
    """Record outages, tell of them, and move the deadlines of those that are over."""
    incidents.keep()
