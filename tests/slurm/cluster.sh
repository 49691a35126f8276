#!/usr/bin/env bash
# A Slurm cluster of two nodes in one folder of this machine, to try
# launch/slurm.sbatch:
#
#   apt-get install slurmctld slurmd slurm-client munge
#   bash tests/slurm/cluster.sh start /tmp/slurm
#   export SLURM_CONF=/tmp/slurm/slurm.conf
#   sinfo
#   bash tests/slurm/cluster.sh stop /tmp/slurm
#
# Nothing outside of the folder is written, and no service of the machine is touched.
# The nodes are called 127.0.0.1 and 127.0.0.2, since tasks look each other up by the
# name of their node. Each claims eight CPUs, and eight GPUs that are empty files.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

start() { # folder
  local folder=$1 tool user node number=0
  for tool in munged slurmctld slurmd sinfo; do
    command -v "$tool" >/dev/null || {
      echo "error: no $tool; apt-get install slurmctld slurmd slurm-client munge" >&2
      exit 1
    }
  done
  mkdir -p "$folder/gpus"
  touch "$folder"/gpus/nvidia{0..7}
  user=$(id -un)
  dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
  chmod 400 "$folder/munge.key"
  cat >"$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=${SLURMCTLD_PORT:-17001}
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
KillWait=30
NodeName=127.0.0.1 NodeAddr=127.0.0.1 Port=17011 CPUs=8 Gres=gpu:8
NodeName=127.0.0.2 NodeAddr=127.0.0.2 Port=17012 CPUs=8 Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  echo "Name=gpu File=$folder/gpus/nvidia[0-7]" >"$folder/gres.conf"
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --log-file="$folder/munged.log" --pid-file="$folder/munged.pid" \
    --seed-file="$folder/munged.seed"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  for node in 127.0.0.1 127.0.0.2; do
    slurmd -N "$node"
  done
  for ((number = 0; number < 30; number++)); do
    [[ $(sinfo --noheader --format=%t%D 2>/dev/null) != idle2 ]] || break
    sleep 1
  done
  sinfo
  echo "export SLURM_CONF=$SLURM_CONF"
}

stop() { # folder
  local file number
  export SLURM_CONF=$1/slurm.conf
  # Tasks would outlive the daemons.
  scancel --full --signal=KILL --user="$(id -un)" || true
  for ((number = 0; number < 10; number++)); do
    [[ $(squeue --noheader --states=running,completing) ]] || break
    sleep 1
  done
  for file in "$1"/slurmd-*.pid "$1"/slurmctld.pid "$1"/munged.pid; do
    [[ ! -f $file ]] || kill "$(<"$file")" || true
  done
}

"$@"
