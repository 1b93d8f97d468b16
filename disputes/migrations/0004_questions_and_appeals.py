from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("disputes", "0003_the_whole_case")]
    operations = [
        migrations.RunSQL(
            (SQL / "0004_questions_and_appeals.sql").read_text(),
            reverse_sql=(SQL / "0004_questions_and_appeals_reverse.sql").read_text(),
        )
    ]
