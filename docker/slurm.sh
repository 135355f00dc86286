#!/bin/bash
# A Ray cluster inside one Slurm job, for one command, in the repository:
#   sbatch --nodes 2 --cpus-per-task 16 --gpus-per-node 4 docker/slurm.sh python jobs/round.py --round os1 --store /shared/store
# Every node needs the repository at this path with its environment (make setup), a store that all of them see, and
# nothing from the network. The cluster ends with the job; what was interrupted goes on when it is submitted again.
#SBATCH --job-name pwsseg
#SBATCH --ntasks-per-node 1
set -euo pipefail

repository=${SLURM_SUBMIT_DIR:-$PWD}
cd "$repository"
export PATH=$repository/.venv/bin:$PATH

# Other users of the cluster reach this job's ports: a token, in a file that only this user can read.
token=$repository/docker/.ray-token-$SLURM_JOB_ID
(umask 077; python -c "import secrets; print(secrets.token_hex(32), end='')" > "$token")
trap 'rm -f "$token"' EXIT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000))      # two jobs may share a node
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
start() {    # start NODE OPTION ...: a node of Ray that ends with its srun
    srun --nodes 1 --ntasks 1 --overlap --nodelist "$1" \
        ray start --block --disable-usage-stats --num-cpus "$cpus" --num-gpus "$gpus" --min-worker-port 0 \
        --max-worker-port 0 --dashboard-agent-listen-port 0 "${@:2}" > "docker/ray-$SLURM_JOB_ID-$1.log" 2>&1 &
}

start "$head" --head --port "$port" --include-dashboard false --ray-client-server-port $((port + 20000))
export RAY_ADDRESS=$head:$port
for node in "${nodes[@]:1}"; do
    start "$node" --address "$RAY_ADDRESS"
done
srun --nodes 1 --ntasks 1 --overlap --nodelist "$head" \
    python docker/with_nodes.py --cpus $((cpus * ${#nodes[@]})) --gpus $((gpus * ${#nodes[@]})) --patience 300 -- "$@"
