#!/bin/sh
# What FLARE runs in the container: /workspace/inputs/X_0000.nii.gz -> /workspace/outputs/X.nii.gz
# Started as root, it goes on as the owner of the outputs folder, who alone is sure to be able to write there.
set -eu
cd /workspace

owner=$(stat -c %u outputs)
group=$(stat -c %g outputs)
if [ "$(id -u)" = 0 ] && [ "$owner" != 0 ]; then
    exec setpriv --reuid="$owner" --regid="$group" --clear-groups sh predict.sh
fi
if [ ! -w outputs ]; then
    echo "error: user $(id -u) can't write to outputs, which belongs to user $owner; start the container with" \
        "--user $owner, or give that folder to user $(id -u)" >&2
    exit 1
fi

# A user without an entry in /etc/passwd has no name and no home, which some libraries ask for.
export HOME=/tmp USER=pwsseg LOGNAME=pwsseg
exec python jobs/predict.py --model model/ --images inputs --out outputs
