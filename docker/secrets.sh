#!/bin/sh
# Write docker/.env, which compose.yaml needs: a token for Ray and keys for the store, new and random, for no
# one else's eyes. It is never overwritten: whoever holds it is who may run code on the cluster.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "error: $PWD/.env is there already; delete it for new secrets, and restart the cluster" >&2
    exit 1
fi
random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}
umask 077
{
    echo "RAY_TOKEN=$(random)"
    echo "S3_KEY=pwsseg"
    echo "S3_SECRET=$(random)"
} > .env
