#!/bin/sh
# Runs once, when the database server is set up: a database and a user for the API, and for MLflow.
set -eu

create() {
    psql --username "${POSTGRES_USER:-postgres}" --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create cdm "$CDM_PASSWORD"
create mlflow "$MLFLOW_PASSWORD"  # last: the health check waits for it
