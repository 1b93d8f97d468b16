"""Alarm clocks: what is due stands in rows, so each may run twice, late, or never."""

from celery import shared_task

from escrow import books


@shared_task(queue="default", ignore_result=True)
def check_recent_books(**_: object) -> None:
    """Check what changed in the books lately."""
    books.report(books.check_recent())


@shared_task(queue="default", ignore_result=True)
def check_books(**_: object) -> None:
    """Check the books from the first row to the last."""
    books.report(books.check(full=True))
