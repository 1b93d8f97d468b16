from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0012_scanning_is_a_clock'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='webhookendpoint',
            index=models.Index(
                condition=models.Q(('state', 'enabled')), fields=['agent'], name='webhook_endpoint_told'
            ),
        ),
    ]
