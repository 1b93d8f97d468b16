#!/bin/bash
# Copies the primary on the first start, then follows it.
set -euo pipefail

export PGDATA=/var/lib/postgresql/18/docker
if [ "$(id -u)" = 0 ]; then
  install --directory --owner postgres --group postgres --mode 0700 /var/lib/postgresql/18 "$PGDATA"
  PGPASSWORD=$(cat /run/secrets/replication_password) exec gosu postgres "$BASH" "$0"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  find "$PGDATA" -mindepth 1 -delete
  pg_basebackup --host postgres --username replica --pgdata "$PGDATA" --wal-method stream --slot replica \
    --write-recovery-conf --checkpoint fast
fi
exec postgres -c hot_standby=on -c hot_standby_feedback=on -c max_connections=200
