#!/bin/bash
# Runs once, when the primary's cluster is made: the application's role and database, and the replica's right to copy.
set -euo pipefail

psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
  --set application_password="$(cat /run/secrets/database_password)" \
  --set replication_password="$(cat /run/secrets/replication_password)" <<'SQL'
CREATE ROLE bailee LOGIN PASSWORD :'application_password';
CREATE ROLE replica LOGIN REPLICATION PASSWORD :'replication_password';
ALTER DATABASE bailee OWNER TO bailee;
SELECT pg_create_physical_replication_slot('replica', true);
SQL
echo 'host replication replica samenet scram-sha-256' >> "$PGDATA/pg_hba.conf"
