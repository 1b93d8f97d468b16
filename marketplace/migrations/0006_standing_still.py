import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

# What whoever holds a row's lock must know before judging its clocks: since when they stand still, and whether an outage
# that is over has not moved them yet (`known`: the last standstill that did). VOLATILE, so that it looks with a snapshot
# of its own: that of a statement which waited for the lock may be older than the outage.
#
# Clocks stand still while a standstill is open, and since the last heartbeat of a part that is silent for longer than
# `after_seconds`, recorded or not. A silence whose incident was ended counts no more until the part was seen again.
CLOCKS = """
CREATE FUNCTION marketplace_clocks(known integer, after_seconds integer, OUT stands_since timestamptz, OUT behind boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT least(
        (SELECT started_at FROM marketplace_standstill WHERE ended_at IS NULL),
        (SELECT min(greatest(h.at, (SELECT max(ended_at) FROM marketplace_standstill))) FROM marketplace_heartbeat h
         WHERE h.at < clock_timestamp() - make_interval(secs => after_seconds) AND NOT EXISTS (
             SELECT FROM marketplace_incident i
             WHERE i.part = h.part AND i.started_at >= h.at AND i.ended_at IS NOT NULL))
    ) INTO stands_since;
    SELECT known < marketplace_last_standstill() INTO behind;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0005_incidents'),
    ]

    operations = [
        migrations.RunSQL(CLOCKS, 'DROP FUNCTION marketplace_clocks(integer, integer)'),
        migrations.AddField(
            model_name='job',
            name='frozen_from',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunSQL(
            'UPDATE marketplace_job SET frozen_from = created_at WHERE frozen_at IS NOT NULL', migrations.RunSQL.noop
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='offer',
            name='immutable',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='offer',
            trigger=pgtrigger.compiler.Trigger(name='immutable', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n                    IF TG_OP = 'UPDATE' AND NEW.expires_at > OLD.expires_at\n                        AND to_jsonb(NEW) - 'expires_at' = to_jsonb(OLD) - 'expires_at'\n                    THEN\n                        RETURN NEW;\n                    END IF;\n                    RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;\n                ", hash='812bbe87dd4c6f2c00853de340ccbcd90730f23d', operation='UPDATE OR DELETE', pgid='pgtrigger_immutable_06348', table='marketplace_offer', when='BEFORE')),
        ),
    ]
