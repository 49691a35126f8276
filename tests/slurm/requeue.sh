#!/usr/bin/env bash
# Trains through launch/slurm.sbatch in a Slurm of its own: two tasks on two nodes, by
# CPU. The job is asked to stop by SIGTERM, saves, is requeued and goes on to the end.
#
#   apt-get install slurmctld slurmd slurm-client munge
#   bash tests/slurm/requeue.sh
#
# Takes some minutes on two cores; fails with a line unless all of that was seen. What
# Slurm wrote stays in the folder that the first line names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=$(mktemp -d -t rahf-slurm-XXXX)
echo "in $folder"
log=$folder/job.log workdir=$folder/run
fail() {
  echo "error: $1; see $log and $folder/*.log" >&2
  exit 1
}
await() { # seconds, text in the log
  local end=$((SECONDS + $1))
  until grep -qs "$2" "$log"; do
    ((SECONDS < end)) || fail "no '$2' after $1 s"
    sleep 1
  done
  echo "$(date +%T) $2"
}

state() {
  scontrol show job "$job" | grep -oE '(JobState|Reason|Restarts)=\w+' | tr '\n' ' '
  echo
}

bash tests/slurm/cluster.sh start "$folder"
trap 'bash tests/slurm/cluster.sh stop "$folder"' EXIT
export SLURM_CONF=$folder/slurm.conf JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR=$folder/cache PYTHONPATH=$PWD
# Nodes of a cluster have machines of their own, and these share two cores.
export XLA_FLAGS=--xla_backend_optimization_level=0

job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 \
  --gpus-per-node=0 --time=0:30:00 --output="$log" launch/slurm.sbatch \
  --config=configs/scenes_demo.py --workdir="$workdir" \
  --config.input.batch_size=4 --config.model.vit.depth=1 \
  --config.model.t5.encoder_layers=1 --config.eval.examples=4 \
  --config.eval.batch_size=4 --config.log.every_steps=1 \
  --config.training_steps="${STEPS:-40}")
await 400 'start 1, on'
await 400 "step 0 of ${STEPS:-40}"
until [[ -s $workdir/metrics.jsonl ]]; do
  squeue --noheader --jobs "$job" | grep -q . || fail "the job ended"
  sleep 1
done
echo "$(date +%T) scancel --signal=TERM $job"
scancel --signal=TERM "$job"
await 400 'training exited with 75'
sleep 2
state
# A requeued job waits two minutes, lest the node be at fault.
await 600 'start 2, on'
await 600 'training exited with 0'
sleep 2
state
[[ $(state) == *JobState=COMPLETED*Restarts=1* ]] ||
  fail "expected a completed job with one restart"
.venv/bin/python - "$workdir" "${STEPS:-40}" <<'PYTHON'
import json
import sys

rows = [json.loads(line) for line in open(f"{sys.argv[1]}/metrics.jsonl")]
steps = [row["step"] for row in rows]
assert steps == list(range(1, int(sys.argv[2]) + 1)), steps
print("metrics.jsonl has every step once:", steps[0], "to", steps[-1])
PYTHON
