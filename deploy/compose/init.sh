#!/bin/sh
# Make the secrets of docker-compose.yml in a file .env beside it that only its owner can read: all of them at first, and
# later those that a newer version has added.
set -eu
cd "$(dirname "$0")/../.."

# Containers read these as users of their own; with a strict umask the checkout is for its owner alone.
chmod -R a+rX deploy/compose/postgres deploy/prometheus deploy/grafana

umask 077
secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

made=""
make_secret() {  # NAME BYTES [PREFIX]
    if ! grep -q "^$1=" .env.new; then
        echo "$1=${3:-}$(secret "$2")" >> .env.new
        made="$made $1"
    fi
}

if [ -e .env ]; then
    cp .env .env.new
    [ -z "$(tail -c 1 .env.new)" ] || echo >> .env.new
else
    echo "# Made by deploy/compose/init.sh. Whoever reads this file may do everything. Choices: docs/deployment.md." > .env.new
fi
make_secret CDM_API_KEY 20 cdm_sk_
make_secret RAY_AUTH_TOKEN 32
make_secret S3_ACCESS_KEY 10
make_secret S3_SECRET_KEY 20
make_secret MLFLOW_S3_ACCESS_KEY 10
make_secret MLFLOW_S3_SECRET_KEY 20
make_secret POSTGRES_PASSWORD 20
make_secret CDM_DATABASE_PASSWORD 20
make_secret MLFLOW_DATABASE_PASSWORD 20
make_secret GRAFANA_PASSWORD 10

if [ -z "$made" ]; then
    rm .env.new
    echo ".env is there already: nothing was changed"
elif [ -e .env ]; then
    mv .env.new .env
    echo "added to .env:$made"
else
    mv .env.new .env
    echo "wrote .env: next, docker compose up --build --detach --wait"
fi
