#!/bin/sh
# Run once by the PostgreSQL image, on an empty volume: a database for each of Prefect, MLflow and
# Optuna, owned by a role of its own that can enter no other. Passwords come by the environment.
set -eu

make() {
    psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
        --set=name="$1" --set=password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

make prefect "$PREFECT_DATABASE_PASSWORD"
make mlflow "$MLFLOW_DATABASE_PASSWORD"
make optuna "$OPTUNA_DATABASE_PASSWORD"
