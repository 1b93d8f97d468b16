"""The alarm clocks: each is known, goes to its queue, may ring twice at once, and may not ring at all."""

import ast
import inspect
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from kombu.exceptions import OperationalError

from accounts import challenges, clock, idempotency
from accounts.models import Agent, Challenge, IdempotencyRecord
from accounts.tests.signers import Signer
from config.celery import QUEUES, SCHEDULE, app
from marketplace.models import Transition
from marketplace.tests.trades import Trade

APPS = ("accounts", "escrow", "marketplace", "disputes")
app.loader.import_default_modules()
TASKS = {name: task for name, task in app.tasks.items() if name.partition(".")[0] in APPS}


def is_periodic(task) -> bool:
    """Tell a task that needs to be told nothing from one that somebody rings with a name."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return not [p for p in inspect.signature(task.run).parameters.values() if p.kind in kinds and p.default is p.empty]


class TestSchedule:
    def test_names_tasks_that_exist_and_each_once(self):
        names = [every.task for every in SCHEDULE]

        assert set(names) <= TASKS.keys()
        assert len(names) == len(set(names))

    def test_leaves_no_periodic_task_out(self):
        periodic = {name for name, task in TASKS.items() if is_periodic(task)}

        assert periodic == {every.task for every in SCHEDULE}

    @pytest.mark.parametrize("every", SCHEDULE, ids=lambda every: every.task)
    def test_rings_in_the_queue_of_the_task(self, every):
        assert every.queue == TASKS[every.task].queue
        assert every.queue in QUEUES

    @pytest.mark.parametrize("name", sorted(TASKS))
    def test_every_task_has_a_queue_and_keeps_no_result(self, name):
        assert TASKS[name].queue in QUEUES
        assert TASKS[name].ignore_result

    def test_only_the_treasury_signs(self):
        signing = {"authorize_withdrawals", "relay_transactions", "settle_withdrawals", "sweep_deposits"}

        assert {every.task.rpartition(".")[2] for every in SCHEDULE if every.queue == "treasury"} == signing

    @pytest.mark.parametrize(
        ("task", "seconds"),
        [
            ("marketplace.tasks.enforce_deadlines", 1),
            ("disputes.tasks.enforce_deadlines", 1),
            ("escrow.tasks.check_recent_books", 600),
            ("escrow.tasks.check_books", 86_400),
        ],
    )
    def test_promises_of_the_design_are_kept(self, task, seconds):
        assert {every.task: every.seconds for every in SCHEDULE}[task] == seconds


@pytest.mark.django_db(transaction=True)
class TestTwiceAtOnce:
    @pytest.mark.parametrize("every", SCHEDULE, ids=lambda every: every.task)
    def test_is_harmless_on_an_empty_database(self, race, every):
        assert race(*[TASKS[every.task]] * 2) == [None, None]

    def test_does_once_what_is_due(self, race, alice, bob, make_agent, credit):
        """Run each task four times at once over rows that are due."""
        now = clock.now()
        for agent in (alice, bob):
            credit(agent, 100_000_000)
        trade = Trade(alice, bob, now - timedelta(days=30))
        due = [trade.job(state) for state in ("negotiating", "agreed", "funded", "delivered")]
        gone = make_agent("gone", status=Agent.Status.LEAVING)
        make_agent("held", status=Agent.Status.SUSPENDED)
        signer = Signer()
        challenges.issue(purpose="register", public_key=signer.raw, at=now - timedelta(days=3))
        idempotency.remember("agent:a", "k", fingerprint=b"", answer=idempotency.Answer(200, {}), keep=False)
        IdempotencyRecord.objects.update(created_at=now - timedelta(days=2))

        for every in SCHEDULE:
            assert race(*[TASKS[every.task]] * 4) == [None] * 4, every.task

        for job, state in zip(due, ("expired", "expired", "failed", "completed"), strict=True):
            job.refresh_from_db()
            assert job.state == state
            assert Transition.objects.filter(job=job, to_state=state).count() == 1
        gone.refresh_from_db()
        assert gone.status == Agent.Status.DEACTIVATED
        assert not Challenge.objects.exists()
        assert not IdempotencyRecord.objects.exists()


class TestDoorbell:
    def test_that_is_broken_does_not_hold_who_rings_it(self):
        begun = time.monotonic()
        with app.connection_for_write("redis://127.0.0.1:1/0") as nowhere, pytest.raises(OperationalError):
            TASKS["accounts.tasks.finish_leaving"].apply_async(connection=nowhere)

        assert time.monotonic() - begun < 2

    @pytest.mark.django_db(transaction=True)
    def test_that_is_broken_breaks_no_request(self, alice, monkeypatch, client_for):
        """Deactivate over HTTP, which rings a bell after its commit, while nobody carries it."""
        rung = []

        def ring(*args, **options):
            rung.append(args)
            raise OperationalError("no Redis")

        monkeypatch.setattr(TASKS["accounts.tasks.finish_leaving"], "apply_async", ring)
        client = client_for(alice)
        signer = Signer()
        alice.keys.create(public_key=signer.raw)

        answer = client.post("/me/deactivation", signer.answered("confirm"))

        assert answer.status_code == 200, answer.content
        assert rung
        alice.refresh_from_db()
        assert alice.status == Agent.Status.LEAVING

    def test_after_a_commit_is_always_robust(self):
        """A bell that raises after the commit would answer 500 to what was done."""
        fragile = []
        for name in APPS:
            for path in Path(settings.BASE_DIR, name).rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    is_call = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "on_commit"
                    # Django's own log line about a robust function that raised asks for its name: a partial has none.
                    if is_call and (
                        "robust" not in {k.arg for k in node.keywords} or isinstance(node.args[0], ast.Call)
                    ):
                        fragile.append(f"{path}:{node.lineno}")

        assert fragile == []
