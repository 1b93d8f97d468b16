DROP TRIGGER schedule_is_not_emptied ON django_celery_beat_periodictask;
DROP TRIGGER interval_stays_as_it_is ON django_celery_beat_intervalschedule;
DROP TRIGGER schedule_is_guarded ON django_celery_beat_periodictask;
DROP FUNCTION accounts_refuse_schedule_change();
DROP FUNCTION accounts_guard_schedule();
DROP FUNCTION accounts_clock_queue(text);
