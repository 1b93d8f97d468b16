"""Writing, sealing and forging the audit log in tests."""

import threading
from contextlib import contextmanager
from unittest import mock

from django.db import connection, connections, transaction

from accounts import audit, audit_chain
from accounts.models import AuditLink, AuditRecord


def write(*reasons):
    """Write records, each in a transaction of its own; answer their numbers."""
    for reason in reasons:
        audit.record("test.written", subject=f"test:{reason}", facts={"of": [reason, 1.5, None]}, reason=str(reason))
    return list(AuditRecord.objects.order_by("id").values_list("id", flat=True))


def seal_all():
    """
    Seal every record, of transactions that are over as the test knows.

    Those of other databases of the cluster hold the sealer back, too, for as long as other tests take.
    """
    with mock.patch.object(audit_chain, "FINISHED", "true"):
        audit.seal()
    assert AuditLink.objects.count() == AuditRecord.objects.count()
    return audit.head()


@contextmanager
def forging():
    """Change rows as somebody with a superuser's prompt could: no trigger fires."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor


@contextmanager
def open_transaction(work):
    """Do the work in a transaction of another connection that stays open for the length of the block."""
    begun, may_end, outcome = threading.Event(), threading.Event(), []

    def run():
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                outcome.append(work())
                begun.set()
                may_end.wait(timeout=120)
        finally:
            begun.set()
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(timeout=60)
        assert outcome, "the work failed"
        yield outcome[0]
    finally:
        may_end.set()
        thread.join()


def relink(cursor, since=1):
    """Compute the links anew from a position on, as a careful forger would."""
    before = AuditLink.objects.filter(position=since - 1).first()
    chain_hash = bytes(before.chain_hash) if before else audit_chain.BEFORE_THE_FIRST
    for link in AuditLink.objects.filter(position__gte=since).order_by("position"):
        cursor.execute(
            f"SELECT {audit_chain.SELECTED} FROM accounts_auditrecord r WHERE r.id = %s",
            [link.record_id],
        )
        digest = audit_chain.hash_of(cursor.fetchone())
        chain_hash = audit_chain.linked(chain_hash, digest)
        cursor.execute(
            "UPDATE accounts_auditlink SET record_hash = %s, chain_hash = %s WHERE position = %s",
            [digest, chain_hash, link.position],
        )


def reseal(cursor):
    """Put the seals on the links as they are now."""
    cursor.execute(
        "UPDATE accounts_auditseal s SET chain_hash = l.chain_hash FROM accounts_auditlink l"
        " WHERE l.position = s.position"
    )
