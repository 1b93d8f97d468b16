"""Triggers that rows of every app share."""

import pgtrigger

# A row that is written once; and a table that nobody empties, a person with a psql prompt included.
IMMUTABLE = (
    pgtrigger.Protect(name="immutable", operation=pgtrigger.Update | pgtrigger.Delete),
    pgtrigger.Trigger(
        name="kept",
        operation=pgtrigger.Truncate,
        when=pgtrigger.Before,
        level=pgtrigger.Statement,
        func="RAISE '% is kept', TG_TABLE_NAME USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;",
    ),
)
