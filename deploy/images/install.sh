#!/bin/sh
# Install packages into /opt/venv while an image is built, trusting the authority of the build secret `ca` if there is one.
set -eu
if [ -s /run/ca.pem ]; then export PIP_CERT=/run/ca.pem; fi
exec /usr/local/bin/python3 -m pip --python /opt/venv/bin/python install --quiet "$@"
