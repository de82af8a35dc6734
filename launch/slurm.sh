#!/bin/bash
# A training stage on the nodes of a SLURM job, one launcher on each. What stands after the recipe goes to it.
#   sbatch launch/slurm.sh sft recipes/qwen3-8b/raft.yaml
#   sbatch --nodes 2 launch/slurm.sh sft recipes/qwen3-32b/raft.yaml
#   ACCELERATE_CONFIG=recipes/accelerate_configs/fsdp2.yaml sbatch launch/slurm.sh rl recipes/qwen3-8b/real.yaml --max_steps 20
# Submit it in the root of the repository, on a file system that all nodes see. A job that was killed or requeued goes on from its last
# complete checkpoint: submit it again.
#SBATCH --job-name=real_trl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: sbatch [--nodes N] launch/slurm.sh STAGE RECIPE [--option value ...], e.g. sft recipes/qwen3-8b/raft.yaml" >&2
    exit 2
fi
STAGE=$1 RECIPE=$2
shift 2
[ "$STAGE" = doctor ] && SAYS=--recipe || SAYS=--config
CONFIG=${ACCELERATE_CONFIG:-recipes/accelerate_configs/zero3.yaml}
for file in "$RECIPE" "$CONFIG"; do
    [ -f "$file" ] || { echo "$file: no such file. Submit the job in the root of the repository." >&2; exit 2; }
done
# The environment of README.md, if there is one; a container brings its own
[ ! -f .venv/bin/activate ] || source .venv/bin/activate

GPUS=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
PORT=$((20000 + SLURM_JOB_ID % 12000))  # jobs that share a node do not meet; below the ports that the system gives out, from 32768
CPUS=${SLURM_CPUS_PER_TASK:-64}  # srun does not take them over from sbatch
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}

# What one process shows, and then how several compare with it
FAILED=0
if [ "$STAGE" = doctor ]; then
    srun --nodes=1 --ntasks=1 --cpus-per-task="$CPUS" python -m real_trl.scripts.doctor "$SAYS" "$RECIPE" "$@" || FAILED=$?
fi

# The node's number is known on the node only
srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task="$CPUS" --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --config_file "$0" --num_machines "$1" --num_processes "$2" --machine_rank "$SLURM_NODEID" \
        --main_process_ip "$3" --main_process_port "$4" -m "${@:5}"
' "$CONFIG" "$SLURM_NNODES" "$((SLURM_NNODES * GPUS))" "$HEAD" "$PORT" "real_trl.scripts.$STAGE" "$SAYS" "$RECIPE" "$@"
exit "$FAILED"
