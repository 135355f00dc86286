#!/bin/bash
# Build the images and do their work, on a machine without a Docker engine: bash docker/verify.sh [FOLDER]
# With GPU=yes in the environment the image for GPUs, too: three gigabytes of wheels from PyPI, 20 GB of disk.
# As root on Debian, with buildah, mmdebstrap, iproute2 and util-linux; no registry of images is asked. The base is
# made from Debian's packages, Python's come from wherever pip finds them, and the build itself has no network.
# FOLDER (default: a new one, deleted at the end) keeps base, wheels and images for the next call.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-}
clean() {
    in_store rm --all > /dev/null 2>&1 || true
    umount "$work/storage/overlay" 2> /dev/null || true
    rm -rf "$work"
}
if [ -z "$work" ]; then
    work=$(mktemp -d)
    trap clean EXIT
fi
mkdir -p "$work"/{wheels,wheels-gpu,data}
for tool in buildah mmdebstrap ip unshare; do
    command -v "$tool" > /dev/null || { echo "error: $tool is missing; apt-get install buildah mmdebstrap iproute2" >&2; exit 1; }
done

export BUILDAH_ISOLATION=chroot
in_store() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
say() { printf '\n== %s (%d s)\n' "$*" $SECONDS; }
# A network namespace with nothing but loopback, and a process namespace that ends with its first process.
alone() {
    unshare --net --pid --fork --kill-child --mount-proc \
        sh -c 'ip link set lo up && exec "$@"' - "$@"
}
# Run a command in a container of buildah, with $work/data as /data and no network.
in_image() {    # in_image CONTAINER COMMAND ...
    alone buildah --root "$work/storage" --runroot "$work/run" run --volume "$work/data:/data" "$1" -- "${@:2}"
}

say "a base of Debian's packages"
if ! in_store inspect --type image localhost/base > /dev/null 2>&1; then
    mmdebstrap --quiet --variant=minbase --include=python3-venv,python-is-python3,ca-certificates \
        bookworm "$work/base.tar"
    scratch=$(in_store from scratch)
    in_store add --quiet "$scratch" "$work/base.tar" / > /dev/null
    in_store commit --quiet --rm "$scratch" localhost/base > /dev/null
fi

say "the wheels that constraints.txt names"
python3 -c "import tomllib; print(*tomllib.load(open('$repository/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > "$work/requirements.txt"
wheels() {    # wheels FOLDER
    python3 -m pip download --quiet --dest "$work/$1" -c "$repository/constraints.txt" \
        -r "$work/requirements.txt" torch setuptools 2>&1 | grep -v '^WARNING' || true
}
wheels wheels
[ -z "${GPU:-}" ] || PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' wheels wheels-gpu
printf '[global]\nno-index = true\nfind-links = /wheels\n' > "$work/pip.conf"

say "the image pwsseg:cpu, built without a network"
build() {    # with the wheels of ${from:-wheels}
    alone buildah --root "$work/storage" --runroot "$work/run" build --quiet --layers \
        --volume "$work/${from:-wheels}:/wheels:ro" --volume "$work/pip.conf:/etc/pip.conf:ro" "$@" > /dev/null
}
build --file "$repository/docker/Dockerfile" --build-arg BASE=localhost/base --tag localhost/pwsseg:cpu "$repository"
if build --file "$repository/docker/Dockerfile" --build-arg BASE=localhost/base --build-arg DEVICE=gpu \
    "$repository" 2> "$work/refused"; then
    echo "error: a build for CPUs passed as one for GPUs" >&2
    exit 1
fi
grep -h "^error: torch's build" "$work/refused"
sizes() {
    in_store images --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep "$1"
}
sizes localhost/base
sizes localhost/pwsseg

say "the main job in it, as user 1000, without a network"
rm -rf "$work/data"
mkdir -p "$work/data"
cp -r "$repository/jobs/rounds" "$repository/tests/scales" "$work/data/"
sed -i '/^\[drift\]$/,/^$/d' "$work"/data/rounds/*.toml     # a network that has learnt nothing drifts as it pleases
chown -R 1000:1000 "$work/data"
container=$(in_store from localhost/pwsseg:cpu)
job() {
    printf '$ %s\n' "$*"
    in_image "$container" "$@"
}
job id
job python jobs/phantom.py --out /data/corpus --workers 2 --organs 2 --five-organs 1 --five-organs-and-tumor 1 \
    --tumor-only 1 --unannotated 1 --validation 1
job python jobs/ingest.py --store /data/store --images /data/corpus --annotated /data/corpus/annotated.csv
job python jobs/round.py --round os1 --scale tiny-cascade --settings /data --store /data/store
job pwsseg verify /data/store
job pwsseg layers /data/store --table

say "the same round, submitted to a head in it that asks for a token"
cat > "$work/data/submit.sh" <<'END'
set -euo pipefail
(umask 077; python -c "import secrets; print(secrets.token_hex(32), end='')" > /tmp/token)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/tmp/token
ray start --head --block --disable-usage-stats --object-store-memory 500000000 > /tmp/head.log 2>&1 &
until ray job list > /dev/null 2>&1; do
    kill -0 $! || { cat /tmp/head.log; exit 1; }
    sleep 1
done
if RAY_AUTH_MODE=disabled ray job list > /tmp/stranger.log 2>&1; then
    echo "error: the head let a stranger in"
    exit 1
fi
ray job submit -- python jobs/round.py --round os1 --scale tiny-cascade --settings /data --store /data/store
if grep -rlF "$(cat /tmp/token)" /tmp/ray /data; then
    echo "error: the token stands in these files"
    exit 1
fi
END
job bash /data/submit.sh

say "the challenge's image, with the model os1.v1 and its coarse network"
context=$work/context
rm -rf "$context"
mkdir -p "$context/models"
cp "$repository"/docker/challenge/{Dockerfile,predict.sh} "$context/"
cp -r "$work/data/store/models/os1.v1" "$context/models/model"
cp -r "$work/data/store/models/os1-coarse.v1" "$context/models/"
build --build-arg BASE=localhost/pwsseg:cpu --tag localhost/challenge "$context"
sizes localhost/challenge

challenge=$(in_store from localhost/challenge)
scans=$(find "$work"/data/corpus/images{Tr,Val} -name '*.nii.gz' | wc -l)
label() {    # label OWNER [OPTION ...]: what FLARE's command does, with an outputs folder of this owner
    rm -rf "$work/challenge"
    mkdir -p "$work"/challenge/{inputs,outputs}
    cp "$work"/data/corpus/images{Tr,Val}/*.nii.gz "$work/challenge/inputs/"
    chown "$1" "$work/challenge/outputs"
    chmod 755 "$work/challenge/outputs"
    alone buildah --root "$work/storage" --runroot "$work/run" run "${@:2}" \
        --volume "$work/challenge/inputs:/workspace/inputs" --volume "$work/challenge/outputs:/workspace/outputs" \
        "$challenge" -- /bin/bash -c "sh predict.sh"
}
check_labels() {    # check_labels USER
    found=$(find "$work/challenge/outputs" -name '*.nii.gz' ! -name '*_0000*' -user "$1" | wc -l)
    [ "$found" = "$scans" ] || { echo "error: $found labels, expected $scans" >&2; exit 1; }
}
for owner in 1234:1234 0:0; do
    echo "outputs of $owner:"
    label $owner
    check_labels "${owner%:*}"
done
echo "outputs of 1234, started as user 1000:"
if label 1234:1234 --user 1000 > "$work/refused" 2>&1; then
    echo "error: labels were written into another's folder" >&2
    exit 1
fi
grep -h '^error: user 1000' "$work/refused"

if [ -n "${GPU:-}" ]; then
    say "the image pwsseg:gpu, and the challenge's on it, on this machine's CPUs"
    from=wheels-gpu build --file "$repository/docker/Dockerfile" --build-arg BASE=localhost/base \
        --build-arg DEVICE=gpu --tag localhost/pwsseg:gpu "$repository"
    build --build-arg BASE=localhost/pwsseg:gpu --tag localhost/challenge-gpu "$context"
    sizes gpu
    challenge=$(in_store from localhost/challenge-gpu)
    in_image "$challenge" python -W ignore -c "import torch; print('torch', torch.__version__, 'CUDA', torch.version.cuda)"
    label 1234:1234
    check_labels 1234
fi

say "passed: images built without a network; phantom, ingest, round os1, verify; submitted with a token; challenge"
