"""Triggers that rows of every app share."""

import pgtrigger

# A table that nobody empties, a person with a psql prompt included.
KEPT = pgtrigger.Trigger(
    name="kept",
    operation=pgtrigger.Truncate,
    when=pgtrigger.Before,
    level=pgtrigger.Statement,
    func="RAISE '% is kept', TG_TABLE_NAME USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;",
)
# And a row that is written once.
IMMUTABLE = (pgtrigger.Protect(name="immutable", operation=pgtrigger.Update | pgtrigger.Delete), KEPT)
