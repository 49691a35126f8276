#!/usr/bin/env bash
# Trains on a Cloud TPU slice, from your machine, with gcloud:
#
#   export ZONE=us-east5-b NAME=rahf TYPE=v6e-16
#   bash launch/tpu_vm.sh --spot create         # asks for a slice, and waits for it
#   bash launch/tpu_vm.sh copy                  # this working tree, to every host
#   bash launch/tpu_vm.sh --bucket=B install    # once; mounts the bucket B at /mnt/B
#   bash launch/tpu_vm.sh run rahf.bin.train --distributed \
#       --config=configs/rahf_base.py --workdir=/mnt/B/base
#   bash launch/tpu_vm.sh logs                  # follows; Ctrl-C leaves the run alone
#   bash launch/tpu_vm.sh delete
#
# or all of it, again and again until the run is finished, whatever is preempted:
#
#   bash launch/tpu_vm.sh --spot --bucket=B babysit rahf.bin.train --distributed \
#       --config=configs/rahf_base.py --workdir=/mnt/B/base
#
# Commands:
#   create                   asks for a slice, and waits until it is ready
#   copy                     copies the working tree, but for .venv, .git and runs, to all
#                            hosts: to ~/rahf
#   install                  installs there into ~/rahf/.venv, unless setup.py is unchanged;
#                            mounts --bucket
#   run MODULE [ARGS...]     starts a module on all hosts, in ~/rahf; it outlives your
#                            connection. What stands after MODULE is not interpreted
#   logs                     follows the last run on one host (--worker)
#   status                   the slice, and the last run on every host
#   stop                     SIGTERM to the run on every host: rahf.bin.train saves, then
#                            ends with exit code 75
#   fetch PATH [FOLDER]      copies a file or folder of ~/rahf, or an absolute path, from
#                            one host (--worker) to this machine
#   delete                   deletes the slice, if this script created it; asks first
#   babysit MODULE [ARGS...] create, copy, install and run; then watches. Starts again
#                            after exit code 75 or 76; deletes and recreates what was preempted;
#                            ends when all hosts exit with 0, or with the exit code of an
#                            error. May itself be stopped and started at any time
#
# Flags, before the command; or variables, such as ZONE for --zone:
#   --zone=Z --name=N        required
#   --project=P              gcloud's default otherwise
#   --type=T                 the accelerator type, such as v6e-16; required to create
#   --version=V              the software; by --type otherwise
#   --kind=queued            a queued resource; `vm` for a TPU VM at once or not at all
#   --spot                   spot capacity: cheaper, and preempted at any time
#   --create_flag=FLAG       one more flag for gcloud's create, such as --reserved; repeat
#   --bucket=B --mount=DIR   a bucket for workdirs, and where to mount it (/mnt/B)
#   --env=NAME=VALUE         a variable for run; repeat
#   --worker=W               the host of logs and fetch (0)
#   --restarts=N             how often babysit starts again at most (100)
#   --poll=S                 seconds between looks at the slice (30)
#   --patience=N             how many looks until babysit replaces a slice some of whose
#                            hosts do not answer, or wait for one that failed (20)
#   --yes                    do not ask before deleting
#   --dry_run                print the calls of gcloud and make none
#   --help                   this text
#
# A slice with several hosts needs --distributed, and a workdir that all of them see: the
# bucket, whose recipe is in docs/scale.md.
set -euo pipefail
((BASH_VERSINFO[0] >= 5)) || { echo "error: needs bash 5 or later" >&2; exit 1; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PROJECT=${PROJECT:-} ZONE=${ZONE:-} NAME=${NAME:-} TYPE=${TYPE:-} VERSION=${VERSION:-}
KIND=${KIND:-queued} SPOT=${SPOT:-} BUCKET=${BUCKET:-} MOUNT=${MOUNT:-}
WORKER=${WORKER:-0} RESTARTS=${RESTARTS:-100} POLL=${POLL:-30} YES=${YES:-}
DRY_RUN=${DRY_RUN:-} PATIENCE=${PATIENCE:-20}
CREATE_FLAGS=() ENVIRONMENT=()
OWNER=rahf_tpu_vm # the label of what this script created

fail() {
  echo "error: $*" >&2
  exit 1
}

say() { echo "$(date +%H:%M:%S) $*" >&2; }

# Calls gcloud. Its arguments are an array, so that only the command line of a host, which
# goes through a shell there, has to be quoted.
call() {
  local word
  if [[ $DRY_RUN ]]; then
    printf 'gcloud'
    for word; do printf ' %s' "$(quoted "$word")"; done
    printf '\n'
  else
    gcloud "$@" </dev/null
  fi
}

# Prints a word as every POSIX shell reads it back.
quoted() {
  local quote="'\\''"
  if [[ $1 =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
    printf '%s' "$1"
  else
    printf "'%s'" "${1//\'/"$quote"}"
  fi
}

on_hosts() { # workers, command line
  call compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker="$1" --command="$2"
}

remote() { # workers, command of tpu_worker.sh, [argument ...]
  local workers=$1 line='bash tpu_worker.sh' word
  shift
  for word; do
    line+=" $(quoted "$word")"
  done
  on_hosts "$workers" "$line"
}

report() { # also of hosts that nothing was copied to
  # shellcheck disable=SC2016  # the host expands it
  on_hosts all 'if [ -e tpu_worker.sh ]; then bash tpu_worker.sh status; else '`
    `'echo rahf-worker "$(hostname)" none - - -; fi'
}

# -- the slice ---------------------------------------------------------------------------

describe() { # collection, format. Returns 1 if there is none, 2 if gcloud cannot tell
  local arguments=(compute tpus "$1" describe "$NAME" "${PLACE[@]}" --format="$2")
  if ! gcloud "${arguments[@]}" 2>"$SCRATCH/error" </dev/null; then
    ! grep -q NOT_FOUND "$SCRATCH/error" || return 1
    cat "$SCRATCH/error" >&2
    return 2
  fi
}

# Sets STATE to absent, waiting, ready, lost, failed or unknown, and LABEL to who made it.
look() {
  local found=0 text said collection=tpu-vm format='value(state,labels.launched_by)'
  if [[ $KIND == queued ]]; then
    collection=queued-resources
    format='value(state.state,tpu.nodeSpec[0].node.labels.launched_by)'
  fi
  text=$(describe "$collection" "$format") || found=$?
  IFS=$'\t' read -r said LABEL <<<"$text"
  if [[ $found == 0 && $said == ACTIVE ]]; then # the request was granted; is it there?
    said=$(describe tpu-vm 'value(state)') || found=$?
    [[ $found != 1 ]] || found=0 said=PREEMPTED
  fi
  case $found$said in
    1*) STATE=absent ;;
    2*) STATE=unknown ;;
    0READY) STATE=ready ;;
    0SUSPEND* | 0PREEMPTED | 0TERMINATED | 0STOP*) STATE=lost ;;
    0FAILED) STATE=failed ;;
    *) STATE=waiting ;; # ACCEPTED, WAITING_FOR_RESOURCES, CREATING, DELETING, ...
  esac
  [[ ${SEEN:-} == "$STATE$said" ]] || say "$NAME: $STATE${said:+ ($said)}"
  SEEN=$STATE$said
}

look_once() {
  look
  [[ $STATE != unknown ]] || fail "$NAME: gcloud cannot tell its state"
}

request() {
  [[ $TYPE ]] || fail "--type: expected an accelerator type, such as v6e-16"
  local version=$VERSION
  case $TYPE in # https://cloud.google.com/tpu/docs/runtimes
    v6e*) version=${version:-v2-alpha-tpuv6e} ;;
    v5p*) version=${version:-v2-alpha-tpuv5} ;;
    v5lite* | v5e*) version=${version:-v2-alpha-tpuv5-lite} ;;
    *) version=${version:-tpu-ubuntu2204-base} ;;
  esac
  local flags=(--accelerator-type="$TYPE" --labels="launched_by=$OWNER")
  [[ ! $SPOT ]] || flags+=(--spot)
  if [[ $KIND == queued ]]; then
    call compute tpus queued-resources create "$NAME" "${PLACE[@]}" "${flags[@]}" \
      --node-id="$NAME" --runtime-version="$version" "${CREATE_FLAGS[@]}"
  else
    call compute tpus tpu-vm create "$NAME" "${PLACE[@]}" "${flags[@]}" \
      --version="$version" "${CREATE_FLAGS[@]}"
  fi
}

create() {
  request
  [[ ! $DRY_RUN ]] || return 0
  while true; do
    look
    case $STATE in
      ready) return ;;
      waiting | unknown) sleep "$POLL" ;;
      *) fail "$NAME was not created; see: bash launch/tpu_vm.sh status" ;;
    esac
  done
}

remove() { # what this script created, and nothing else
  [[ $DRY_RUN || $LABEL == "$OWNER" ]] ||
    fail "$NAME has no label launched_by=$OWNER: this script did not create it"
  if [[ $KIND == queued ]]; then
    call compute tpus queued-resources delete "$NAME" "${PLACE[@]}" --force
  else
    call compute tpus tpu-vm delete "$NAME" "${PLACE[@]}"
  fi
}

confirm() {
  local answer=''
  [[ ! $YES && ! $DRY_RUN ]] || return 0
  read -r -p "$1 [y/N] " answer || true
  [[ $answer == [yY]* ]] || fail "not confirmed; answer y, or give --yes"
}

delete() {
  if [[ ! $DRY_RUN ]]; then
    look_once
    [[ $STATE != absent ]] || return 0
  fi
  confirm "Delete $NAME in $ZONE?"
  remove
}

# -- the hosts ---------------------------------------------------------------------------

copy() {
  # `|| return`: babysit calls it in a condition, where the shell ignores errors.
  [[ $DRY_RUN ]] || tar --create --gzip --file="$SCRATCH/rahf.tgz" \
    --exclude=./.venv --exclude=./.git --exclude=./runs --exclude=./predictions \
    --exclude=__pycache__ --exclude='*.egg-info' --exclude='.*_cache' . || return
  call compute tpus tpu-vm scp "$SCRATCH/rahf.tgz" launch/tpu_worker.sh "$NAME:" \
    "${PLACE[@]}" --worker=all || return
  remote all unpack
}

install() {
  local bucket=()
  [[ ! $BUCKET ]] || bucket=("$BUCKET" "$MOUNT")
  remote all install "${bucket[@]}"
}

check_module() {
  local path=${1:-}
  path=${path//.//}
  [[ $path == rahf/* && -f $path.py ]] ||
    fail "expected a module of rahf, such as rahf.bin.train, got '${1:-}'"
}

run() {
  check_module "$@"
  STARTS=$((${STARTS:-0} + 1)) # two may begin within a second
  remote all start "$(date -u +%Y%m%dT%H%M%S)-$$-$STARTS" "${ENVIRONMENT[@]}" -- "$@"
}

fetch() {
  local path=${1:-}
  [[ $path ]] || fail "fetch: expected a path of the host, such as runs/demo"
  [[ $path == /* ]] || path=rahf/$path
  call compute tpus tpu-vm scp --recurse "$NAME:$path" "${2:-.}" "${PLACE[@]}" \
    --worker="$WORKER"
}

status() {
  [[ $DRY_RUN ]] || look_once
  [[ ! $DRY_RUN && $STATE != ready ]] || report
}

# -- watching ----------------------------------------------------------------------------

# Sets VERDICT to what the hosts say of the last run: none, running, waiting (for one that
# failed), finished, again, the exit code of an error, or silent. `$1` is the command's sum.
ask() {
  local lines codes
  VERDICT=silent
  lines=$(report | grep '^rahf-worker ') || return 0
  codes=$(awk '{print $4}' <<<"$lines")
  if grep -q ' running ' <<<"$lines"; then
    VERDICT=running
    ! grep -qE ' (none|lost|exited [1-9][0-9]*) ' <<<"$lines" || VERDICT=waiting
    [[ $(awk '$3 == "running" {print $6}' <<<"$lines" | sort -u) == "$1" ]] ||
      fail "$NAME is running something else; stop it first"
  elif ! grep -qv ' none ' <<<"$lines"; then
    VERDICT=none
  elif grep -qE ' (none|lost) ' <<<"$lines" || grep -qxE '75|76' <<<"$codes"; then
    VERDICT=again # a host was lost or asked to stop, and the others ended for want of it
  else
    VERDICT=$(awk '$1 != 0 {print $1; exit}' <<<"$codes")
    VERDICT=${VERDICT:-finished}
  fi
}

again() {
  RESTARTED=$((RESTARTED + 1))
  ((RESTARTED <= RESTARTS)) || fail "$1; gave up after $RESTARTS restarts"
  say "$1; starting again ($RESTARTED of $RESTARTS)"
}

# Each turn looks at the slice and at its hosts and takes the next step, so that it does
# not matter where an earlier babysitter stopped.
babysit() {
  check_module "$@"
  [[ ! $DRY_RUN ]] || { rehearse "$@" && return; }
  confirm "Delete and recreate $NAME in $ZONE whenever it is preempted?"
  look_once
  local sum prepared='' started='' failed='' patience=0
  RESTARTED=0
  sum=$(printf '%s\0' "${ENVIRONMENT[@]}" -- "$@" | cksum | tr ' ' -)
  while true; do
    look
    case $STATE in
      absent)
        # A queued resource is refused for good, a TPU VM also for want of capacity.
        request || { [[ $KIND == vm ]] && again "no TPU VM for now"; } || exit 1 ;;
      lost | failed)
        again "$NAME was lost"
        forsake ;;
      ready) tend "$@" ;;
    esac
    sleep "$POLL"
  done
}

# Deletes the slice; the variables are those of babysit.
forsake() {
  remove
  prepared='' started='' failed='' patience=0
}

# One turn at a slice that is ready. The variables are those of babysit.
tend() {
  ask "$sum"
  if [[ $VERDICT == silent || $VERDICT == waiting ]]; then
    patience=$((patience + 1))
    ((patience > PATIENCE)) || return 0
    again "$NAME: some hosts do not answer or do not end"
    forsake
    return
  fi
  patience=0
  if [[ $VERDICT == running ]]; then
    prepared=yes started=yes failed=''
  elif [[ ! $prepared ]]; then
    if copy && install; then
      prepared=yes
    else
      again "$NAME: copy or install failed"
    fi
  elif [[ ! $started ]]; then
    run "$@" || return 0
    started=yes
  elif [[ $VERDICT == finished ]]; then
    say "finished on every host"
    exit 0
  elif [[ $VERDICT == again || $VERDICT == none ]]; then
    again "the run was interrupted"
    run "$@" || true
    failed=''
  elif [[ ! $failed ]]; then
    failed=yes # of itself, or because a host is gone? The next look at the slice tells
  else
    remote all excerpt >&2 || true
    say "error: the run failed with exit code $VERDICT"
    exit "$VERDICT"
  fi
}

rehearse() {
  request
  copy
  install
  run "$@"
  report
  echo "# after a preemption, and then all of the above again:"
  remove
}

# -- the command line --------------------------------------------------------------------

while [[ ${1:-} == --* ]]; do
  case $1 in
    --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0 ;;
    --project=* | --zone=* | --name=* | --type=* | --version=* | --kind=* | --bucket=* | \
      --mount=* | --worker=* | --restarts=* | --poll=* | --patience=*)
      variable=${1%%=*} variable=${variable#--}
      printf -v "${variable^^}" '%s' "${1#*=}" ;;
    --spot) SPOT=yes ;;
    --yes) YES=yes ;;
    --dry_run) DRY_RUN=yes ;;
    --create_flag=*) CREATE_FLAGS+=("${1#*=}") ;;
    --env=[A-Za-z_]*=*) ENVIRONMENT+=("${1#*=}") ;;
    *) fail "unknown flag $1; see --help" ;;
  esac
  shift
done

verb=${1:-}
case $verb in
  create | copy | install | run | logs | status | stop | fetch | delete | babysit) shift ;;
  *) fail "expected create, copy, install, run, logs, status, stop, fetch, delete or" \
    "babysit, got '$verb'; see --help" ;;
esac
[[ $ZONE ]] || fail "--zone: expected a zone, such as us-east5-b"
[[ $NAME =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
  fail "--name='$NAME': expected lower-case letters, digits and hyphens"
[[ $KIND == queued || $KIND == vm ]] || fail "--kind=$KIND: expected queued or vm"
MOUNT=${MOUNT:-/mnt/$BUCKET}
PLACE=(--zone="$ZONE" --quiet)
[[ ! $PROJECT ]] || PLACE+=(--project="$PROJECT")
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

case $verb in
  logs) remote "$WORKER" logs ;;
  stop) remote all stop ;;
  *) "$verb" "$@" ;;
esac
