#!/bin/sh
# The whole paper, top to bottom, on a cluster with GPUs: sh jobs/paper.sh FLARE_ROOT STORE [FOLDER]
# FLARE_ROOT holds FLARE23 in its own layout (imagesTr, labelsTr, imagesVal, labelsVal) and annotated.csv, which
# states which classes are annotated in which case. Every command is printed before it runs; each can be run by
# hand, and interrupted ones go on where they stopped. `pwsseg plan` says beforehand what a round will take.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: sh jobs/paper.sh FLARE_ROOT STORE [FOLDER]; STORE is a folder or s3://bucket/prefix" >&2
    exit 2
fi
images=$1
store=$2
folder=${3:-paper}
scale=${SCALE:-flare23}
larger=${LARGER:-flare23-larger}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

mkdir -p "$folder"
run python jobs/ingest.py --store "$store" --images "$images" --annotated "$images/annotated.csv"

# Algorithm 1
for round in os1 os2 ots1 ots2; do
    run python jobs/round.py --round "$round" --scale "$scale" --store "$store" --tensorboard "$folder/curves"
done

# Tables 4 to 6: organs and tumors by round, in both modes, and the differences between rounds
run python jobs/evaluate.py --store "$store" --layer os1 os2 ots1 ots2
run pwsseg diff os1 os2 --store "$store"
run pwsseg diff ots1 ots2 --store "$store"

# Table 5, last row: the larger network learns from the same targets
run python jobs/round.py --round ots2 --scale "$larger" --store "$store" --tensorboard "$folder/curves"
run python jobs/evaluate.py --store "$store" --layer ots2

run pwsseg report "$store" --tables --out "$folder/tables"
run pwsseg report "$store" --out "$folder/report.html"
run pwsseg layers "$store"
