from celery import shared_task

from marketplace import deadlines


@shared_task(queue="deadlines", ignore_result=True)
def enforce_deadlines() -> None:
    deadlines.enforce_due()
