#!/bin/sh
# Make the secrets of docker-compose.yml, once, into a file .env beside it that only its owner can read.
set -eu
cd "$(dirname "$0")/../.."

# Containers read these as users of their own; with a strict umask the checkout is for its owner alone.
chmod -R a+rX deploy/compose/postgres deploy/prometheus deploy/grafana

if [ -e .env ]; then
    echo ".env is there already: nothing was changed"
    exit 0
fi

secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

umask 077
cat > .env.new <<EOF
# Made by deploy/compose/init.sh. Whoever reads this file may do everything. Choices: docs/deployment.md.
CDM_API_KEY=cdm_sk_$(secret 20)
RAY_AUTH_TOKEN=$(secret 32)
S3_ACCESS_KEY=$(secret 10)
S3_SECRET_KEY=$(secret 20)
MLFLOW_S3_ACCESS_KEY=$(secret 10)
MLFLOW_S3_SECRET_KEY=$(secret 20)
POSTGRES_PASSWORD=$(secret 20)
CDM_DATABASE_PASSWORD=$(secret 20)
MLFLOW_DATABASE_PASSWORD=$(secret 20)
GRAFANA_PASSWORD=$(secret 10)
EOF
mv .env.new .env
echo "wrote .env: next, docker compose up --build --detach --wait"
