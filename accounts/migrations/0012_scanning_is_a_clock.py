from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0011_events_stay")]
    operations = [
        migrations.RunSQL((SQL / "0012_scanning_is_a_clock.sql").read_text(), reverse_sql=migrations.RunSQL.noop),
    ]
