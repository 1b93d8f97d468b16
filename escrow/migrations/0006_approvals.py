from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent / "sql"


class Migration(migrations.Migration):
    dependencies = [
        ("escrow", "0005_outflow_nonce"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="withdrawal",
            name="withdrawal_returns_a_deposit_once",
        ),
        migrations.AddConstraint(
            model_name="withdrawal",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("returns__isnull", False),
                    (
                        "state__in",
                        [
                            "requested",
                            "held",
                            "cooling",
                            "authorized",
                            "broadcast",
                            "lapsed",
                            "settled",
                            "recognised",
                        ],
                    ),
                ),
                fields=("returns",),
                name="withdrawal_returns_a_deposit_once",
            ),
        ),
        migrations.RunSQL((SQL / "0006_approvals.sql").read_text(), (SQL / "0006_approvals_reverse.sql").read_text()),
    ]
