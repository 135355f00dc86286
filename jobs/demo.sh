#!/bin/sh
# The whole way on made-up abdomens, two cores and no GPU: sh jobs/demo.sh [SEED] [FOLDER]
# Every command is printed before it runs; each can be run by hand, and interrupted ones go on where they stopped.
set -eu

seed=${1:-0}
folder=${2:-demo}
began=$(date +%s)

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

if [ -e "$folder/seed" ] && [ "$(cat "$folder/seed")" != "$seed" ]; then
    echo "error: $folder holds the demo of seed $(cat "$folder/seed"), not of $seed;" \
        "give another folder (make demo SEED=$seed DEMO=demo/seed-$seed) or delete it (make clean)" >&2
    exit 1
fi
mkdir -p "$folder"
echo "$seed" > "$folder/seed"

run python jobs/phantom.py --out "$folder/corpus" --seed "$seed"
run python jobs/ingest.py --store "$folder/store" --images "$folder/corpus" --annotated "$folder/corpus/annotated.csv"
run python jobs/round.py --round all --scale laptop --store "$folder/store" --seed "$seed"
run python jobs/evaluate.py --store "$folder/store" --layer os1 os2 ots1 ots2
run pwsseg layers "$folder/store" --table
run pwsseg report "$folder/store" --out "$folder/report.html"

seconds=$(($(date +%s) - began))
printf '\nThe report is %s/report.html; it took %d min %d s.\n' "$folder" $((seconds / 60)) $((seconds % 60))
