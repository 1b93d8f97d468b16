from celery import shared_task

from disputes import deadlines


@shared_task(queue="deadlines", ignore_result=True)
def enforce_deadlines() -> None:
    deadlines.enforce_due(limit=200)
