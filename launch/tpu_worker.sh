#!/usr/bin/env bash
# The half of launch/tpu_vm.sh that runs on each host (worker) of a TPU slice, from the
# home folder. tpu_vm.sh copies it there and calls it; it is rarely called by hand.
#
#   unpack                                 ~/rahf.tgz becomes ~/rahf; its .venv is kept
#   install [BUCKET FOLDER]                installs into ~/rahf/.venv, once; mounts a bucket
#   start RUN [NAME=VALUE ...] -- MODULE [ARGUMENT ...]
#   status, logs, excerpt, stop            of the run that was started last
#
# A run is a folder ~/rahf-runs/RUN: command, log, process ids and, at the end, `code`, the
# exit code. The run belongs to no terminal, so it outlives the connection that started it.
set -euo pipefail

TREE=$HOME/rahf
RUNS=$HOME/rahf-runs
ME=$(realpath "${BASH_SOURCE[0]}")

fail() {
  echo "error: $*" >&2
  exit 1
}

# Sets STATE (none, running, exited, lost) and CODE of the last run.
look() {
  local process boot folder=$RUNS/last
  STATE=none CODE=-
  [[ -e $folder ]] || return 0
  STATE=lost # the host was rebooted, or the supervisor killed
  if read -r process boot 2>/dev/null <"$folder/process" &&
    [[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] &&
    grep -qs "$(basename "$ME")" "/proc/$process/cmdline"; then
    STATE=running # the supervisor, or the process that is about to become it
  fi
  # Last: a supervisor that had ended above has written it.
  if [[ -f $folder/code ]]; then
    STATE=exited CODE=$(<"$folder/code")
  fi
}

idle() {
  look
  [[ $STATE != running ]] || fail "$(hostname): a run is going on; stop it first"
}

unpack() {
  idle
  rm -rf "$TREE.new"
  mkdir "$TREE.new"
  tar --extract --gzip --file "$HOME/rahf.tgz" --directory "$TREE.new"
  if [[ -d $TREE/.venv ]]; then
    mv "$TREE/.venv" "$TREE.new/.venv"
  fi
  rm -rf "$TREE"
  mv "$TREE.new" "$TREE"
}

install() { # [bucket, folder]
  idle
  cd "$TREE"
  # shellcheck source=launch/install.sh
  source launch/install.sh
  PYTHON=$(find_python 2>/dev/null || fetch_python)
  export PYTHON
  EXTRAS=${EXTRAS:-tpu,train} install_rahf
  mkdir -p "$RUNS"
  printf '%s\n' "$@" >"$RUNS/bucket"
  mount_bucket
}

# Metadata are not cached: hosts must see at once what another wrote, and on large machines
# gcsfuse caches them for ever by default.
mount_bucket() {
  local bucket folder list=/etc/apt/sources.list.d/gcsfuse.list
  { read -r bucket && read -r folder; } <"$RUNS/bucket" || return 0
  ! mountpoint -q "$folder" || return 0
  if ! command -v gcsfuse >/dev/null; then
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg |
      sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc]" \
      "https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -c -s) main" |
      sudo tee "$list" >/dev/null
    # A new machine may still be updating itself.
    sudo apt-get -o DPkg::Lock::Timeout=600 update -q
    sudo apt-get -o DPkg::Lock::Timeout=600 install -qy gcsfuse
  fi
  sudo mkdir -p "$folder"
  sudo chown "$(id -u):$(id -g)" "$folder"
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 \
    --metadata-cache-negative-ttl-secs=0 "$bucket" "$folder"
}

# The same RUN is started once, however often: gcloud repeats a command whose connection
# broke.
start() { # run, [NAME=VALUE ...], --, module, [argument ...]
  local folder=$RUNS/$1
  [[ ! -d $folder ]] || return 0
  idle
  [[ -x $TREE/.venv/bin/python ]] || fail "$(hostname): not installed; install first"
  mount_bucket
  mkdir "$folder"
  ln -sfn "$1" "$RUNS/last"
  shift
  printf '%s\0' "$@" >"$folder/command"
  cd "$TREE"
  setsid nohup bash "$ME" supervise "$folder" "$@" >"$folder/log" 2>&1 </dev/null &
  echo "$! $(</proc/sys/kernel/random/boot_id)" >"$folder/process"
  echo "$(hostname): started ${folder##*/}"
}

# Runs python and writes down its exit code. A shutdown sends SIGTERM to every process: the
# supervisor ignores it (a trap would break off `wait`) and does not pass it on, so python
# gets it once.
supervise() { # folder, [NAME=VALUE ...], --, module, [argument ...]
  local folder=$1 code=0 variables=()
  shift
  while [[ $1 != -- ]]; do
    variables+=("$1")
    shift
  done
  shift
  trap '' TERM
  # The cache is code: it lies where nobody else can write.
  env --default-signal=TERM JAX_COMPILATION_CACHE_DIR="$HOME/.cache/rahf-jax" \
    PYTHONUNBUFFERED=1 "${variables[@]}" "$TREE/.venv/bin/python" -m "$@" &
  echo "$!" >"$folder/child"
  wait "$!" || code=$?
  echo "$code" >"$folder/code.new"
  mv "$folder/code.new" "$folder/code"
}

status() {
  local run=- command=-
  look
  if [[ $STATE != none ]]; then
    run=$(basename "$(readlink "$RUNS/last")")
    command=$(cksum <"$RUNS/last/command" | tr ' ' -)
  fi
  echo "rahf-worker $(hostname) $STATE $CODE $run $command"
}

logs() { # follows until the run ends
  local process _
  [[ -e $RUNS/last ]] || fail "$(hostname): nothing was run"
  read -r process _ <"$RUNS/last/process"
  tail --lines=100 --follow=name --pid="$process" "$RUNS/last/log"
  status
}

excerpt() { # of the log, if the run failed
  look
  [[ $STATE != exited || $CODE == 0 ]] || tail --lines=20 "$RUNS/last/log" |
    sed "s/^/$(hostname): /"
}

stop() { # asks the run to save and stop
  look
  [[ $STATE == running ]] || return 0
  kill -TERM "$(<"$RUNS/last/child")"
}

case ${1:-} in
  unpack | install | start | supervise | status | logs | excerpt | stop) "$@" ;;
  *) fail "expected unpack, install, start, status, logs, excerpt or stop, got '${1:-}'" ;;
esac
