"""/metrics: true numbers, for the inside alone."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import PeriodicTask
from prometheus_client.parser import text_string_to_metric_families

from accounts import alerts, audit, clock, clockwork, ids, pauses, runs
from accounts.models import AuditLink, AuditRecord, AuditSeal
from escrow import ledger, withdrawals
from escrow.ledger import Move
from escrow.models import (
    Deposit,
    Outflow,
    Relayer,
    RelayTransaction,
    ScanCursor,
    TreasuryReading,
    WatchState,
)
from escrow.tests.treasury import entry_for
from marketplace import incidents
from marketplace.models import Heartbeat

pytestmark = pytest.mark.django_db
UNITS = 1_000_000


def read(**headers: str) -> dict[tuple[str, ...], float]:
    """The numbers as Prometheus would read them, by name and label values."""
    answer = Client().get("/metrics", **headers)
    assert answer.status_code == 200
    families = list(text_string_to_metric_families(answer.content.decode()))
    assert all(family.type == "gauge" and family.documentation for family in families)
    return {
        (sample.name.removeprefix("bailee_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


class TestWho:
    @pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "::1", "::ffff:172.16.0.1", "fd00::1"])
    def test_may_ask_from_inside(self, address):
        assert Client().get("/metrics", REMOTE_ADDR=address).status_code == 200

    @pytest.mark.parametrize("address", ["8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "172.32.0.1", "", "unix:"])
    def test_finds_nothing_from_outside(self, address):
        assert Client().get("/metrics", REMOTE_ADDR=address).status_code == 404

    @pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"])
    @pytest.mark.parametrize("said", ["127.0.0.1", ""])
    def test_finds_nothing_through_a_proxy(self, header, said):
        assert Client().get("/metrics", REMOTE_ADDR="127.0.0.1", **{header: said}).status_code == 404

    def test_is_what_the_settings_say(self, settings):
        settings.METRICS_NETWORKS = ["203.0.113.0/24"]

        assert Client().get("/metrics", REMOTE_ADDR="203.0.113.7").status_code == 200
        assert Client().get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 404

    def test_can_only_read(self):
        assert Client().post("/metrics").status_code == 405


class TestNumbers:
    def test_of_the_audit_log(self, noon):
        assert (read()["audit_position",], read()["audit_unsealed_age_seconds",]) == (0, 0)

        for number, minutes in ((1, 9), (2, 4), (3, 2)):
            audit.record(f"test.{number}", at=clock.now() - timedelta(minutes=minutes))
        first = AuditRecord.objects.order_by("id").first()
        AuditLink.objects.create(position=1, record_id=first.pk, record_hash=b"", chain_hash=b"", sealed_at=clock.now())
        AuditSeal.objects.create(position=1, chain_hash=b"", sealed_at=clock.now())

        found = read()

        assert found["audit_position",] == 1
        assert 240 <= found["audit_unsealed_age_seconds",] < 540, "the second record is the oldest unsealed one"

    def test_of_an_empty_house(self):
        found = read()

        assert found["ledger_custody_units",] == found["ledger_liabilities_units",] == 0
        assert found["withdrawals", "settled"] == 0
        assert found["paused", "withdrawals"] == 0
        assert ("reading_block",) not in found
        assert ("scan_block",) not in found

    def test_of_the_ledger(self, alice, credit, noon):
        credit(alice, 10 * UNITS)
        moves = [Move("shortfall", "platform", -2 * UNITS), Move("custody", "chain:31337", 2 * UNITS)]
        posting = ledger.post("t:lost", kind="test", moves=moves, at=noon)

        found = read()

        assert found["ledger_liabilities_units",] == 10 * UNITS
        assert found["ledger_custody_units",] == 8 * UNITS
        assert found["ledger_shortfall_units",] == 2 * UNITS
        assert found["ledger_last_transfer_id",] == posting.transfer_id

    def test_of_the_chain_as_it_was_last_read(self, noon):
        at = clock.now() - timedelta(seconds=90)
        reading = {"chain_id": 31337, "block_number": 77, "block_at": noon, "custody_units": 9, "liabilities_units": 9}
        TreasuryReading.objects.create(
            **reading,
            **{"treasury_units": 5, "cold_units": 3, "unswept_units": 2, "shortfall_units": 0, "difference_units": -1},
            **{"pending_units": 4, "relayers": {"0xAb": "123000000000000000"}, "read_at": at},
        )
        WatchState.objects.create(chain_id=31337, failures=2, tried_at=at)

        found = read()

        places = [found["chain_holdings_units", place] for place in ("treasury", "cold", "unswept")]
        assert places == [5, 3, 2]
        assert (found["custody_difference_units",], found["payouts_pending_units",]) == (-1, 4)
        assert (found["reading_block",], found["watch_failures",]) == (77, 2)
        assert found["relayer_gas_wei", "0xAb"] == 123 * 10**15
        assert 90 <= found["reading_age_seconds",] < 600
        assert 90 <= found["watch_age_seconds",] < 600

    def test_of_the_scan(self):
        ScanCursor.objects.create(
            **{"chain_id": 31337, "block_number": 90, "block_hash": b"\x07" * 32, "latest_number": 100},
            **{"finalized_number": 80, "read_at": clock.now() - timedelta(seconds=30)},
        )

        found = read()

        assert (found["scan_block",], found["scan_lag_blocks",], found["scan_finalized_block",]) == (90, 10, 80)
        assert 30 <= found["scan_age_seconds",] < 600

    def test_of_deposits_outflows_alerts_and_switches(self, noon, settings):
        log = {"chain_id": 31337, "block_number": 1, "block_hash": b"\x01" * 32, "seen_at": noon, "log_index": 0}
        for number in range(3):
            Deposit.objects.create(
                **log,
                **{"tx_hash": bytes([number]) * 32, "sender": b"\x01" * 20, "receiver": b"\x02" * 20},
                **{"amount_units": 5 * UNITS, "state": "unattributed"},
            )
        Outflow.objects.create(
            **log,
            **{"tx_hash": b"\x09" * 32, "sender": b"\x02" * 20, "receiver": b"\x03" * 20, "amount_units": 7 * UNITS},
        )
        alerts.sound("relayer_gas_low", "0x01")
        alerts.sound("relayer_gas_low", "0x02")
        alerts.sound("treasury_short")
        alerts.clear("treasury_short")
        pauses.pause("deposits", cause="test", reason="a test")

        found = read()

        assert (found["deposits", "unattributed"], found["deposits_units", "unattributed"]) == (3, 15 * UNITS)
        assert (found["outflows_unexplained",], found["outflows_unexplained_units",]) == (1, 7 * UNITS)
        assert found["alerts_open", "relayer_gas_low"] == 2
        assert ("alerts_open", "treasury_short") not in found
        assert [found["paused", flag] for flag in ("deposits", "withdrawals", "new_jobs")] == [1, 0, 0]

    def test_of_payouts_and_relays(self, alice, credit, settings):
        settings.CHAIN_ID, settings.USDC_ADDRESS = 31337, f"0x{'11' * 20}"
        settings.DEPOSIT_FACTORY_ADDRESS = f"0x{'22' * 20}"
        credit(alice, 100 * UNITS)
        withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry_for(alice).pk)
        relayer = Relayer.objects.create(chain_id=31337, address=b"\x05" * 20, next_nonce=1)
        RelayTransaction.objects.create(
            **{"relayer": relayer, "nonce": 0, "purpose": "withdrawal", "withdrawal": withdrawal},
            **{"to": b"\x06" * 20, "data": b"", "gas_limit": 1},
        )

        found = read()

        assert (found["withdrawals", "requested"], found["withdrawals_units", "requested"]) == (1, 40 * UNITS)
        assert (found["relays_open", "withdrawal"], found["relays_open", "sweep"]) == (1, 0)
        assert 0 < found["payout_oldest_seconds",] < 600

    def test_of_tasks(self, monkeypatch):
        call_command("setup_schedules", verbosity=0)
        swept, other = "marketplace.tasks.enforce_deadlines", "accounts.tasks.seal_audit"
        monkeypatch.setattr(clockwork, "_sweeps", {})
        due_at = clock.now() - timedelta(seconds=90)
        clockwork.register(swept, due=lambda: (7, due_at))
        runs.write(swept, seconds=1.5, error="Broken")
        PeriodicTask.objects.filter(name=other).update(date_changed=clock.now() - timedelta(hours=1))

        found = read()

        assert (found["task_due", swept], found["task_failures", swept]) == (7, 1)
        assert (found["task_duration_seconds", swept], found["task_interval_seconds", swept]) == (1.5, 1)
        assert 90 <= found["task_oldest_due_seconds", swept] < 600
        assert 0 <= found["task_run_age_seconds", swept] < 600
        assert (found["task_late", swept], found["task_late", other]) == (0, 1)
        assert found["task_run_age_seconds", other] >= 3_600
        assert ("task_due", other) not in found
        assert ("task_duration_seconds", other) not in found
        assert found["task_enabled", other] == 1

    def test_of_hearts_incidents_and_the_clock(self):
        assert (read()["incidents_open",], read()["standstill_seconds",]) == (0, 0)
        Heartbeat.objects.create(part="beat", at=clock.now() - timedelta(seconds=45))
        incidents.start(reason="a test", since=clock.now() - timedelta(minutes=10))

        found = read()

        assert 45 <= found["heartbeat_age_seconds", "beat"] < 600
        assert ("heartbeat_age_seconds", "redis") not in found
        assert found["incidents_open",] == 1
        assert 600 <= found["standstill_seconds",] < 3_600

    def test_of_webhooks_and_the_feed(self):
        found = read()

        for name in ("endpoints_failing", "endpoints_disabled", "deliveries_pending", "deliveries_due"):
            assert found[f"webhook_{name}",] == 0
        assert found["webhook_oldest_due_seconds",] == 0
        assert found["events_lag_seconds",] >= 0

    def test_of_the_books_take_one_statement_and_all_others_a_few(self):
        """However many rows there are: for each task that counts what is due one statement, and two of a savepoint."""
        with CaptureQueriesContext(connection) as few:
            read()
        call_command("setup_schedules", verbosity=0)
        with CaptureQueriesContext(connection) as many:
            read()

        assert len([each for each in many if "escrow_ledgeraccount" in each["sql"]]) == 1
        assert len(few) < 10
        assert len(many) <= len(few) + 4 * len(clockwork.registered())


class TestWhileMoneyMoves:
    @pytest.mark.django_db(transaction=True)
    def test_custody_is_always_liabilities_less_shortfall(self, make_agent, credit, noon):
        agents = [make_agent(f"agent{number}") for number in range(4)]
        over = threading.Event()

        def move(agent: Any) -> None:
            try:
                while not over.is_set():
                    credit(agent, 3 * UNITS)
                    moves = [Move("shortfall", "platform", -UNITS), Move("custody", "chain:31337", UNITS)]
                    ledger.post(f"test:{ids.uuid7()}", kind="test", moves=moves, at=noon)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=move, args=[agent]) for agent in agents]
        for thread in threads:
            thread.start()
        found = [read() for _ in range(30)]
        over.set()
        for thread in threads:
            thread.join()

        for each in found:
            owed = each["ledger_liabilities_units",] - each["ledger_shortfall_units",]
            assert each["ledger_custody_units",] == owed
        assert len({each["ledger_last_entry_id",] for each in found}) > 5
        assert connection.connection is not None
