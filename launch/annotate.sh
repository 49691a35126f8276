#!/usr/bin/env bash
# A round of annotation in miniature, with simulated raters in place of people: serves
# scenes, collects answers over HTTP, measures agreement, consolidates, trains, evaluates,
# and serves the next images, those first of which the model is least sure.
#
#   bash launch/annotate.sh
#   WORKDIR=runs/mine EXAMPLES=2000 STEPS=1200 bash launch/annotate.sh --config.seed=1
#
# Further arguments go to rahf.bin.train. The same command goes on with an interrupted run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

WORKDIR=${WORKDIR:-runs/annotate}
EXAMPLES=${EXAMPLES:-600}
NEXT=${NEXT:-60}
STEPS=${STEPS:-600}

summary=""
stage() { # name, command...
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@"
  summary+=$(printf '%-18s %5d s' "$name" "$((SECONDS - start))")$'\n'
}
python=.venv/bin/python
server=""
stop() {
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=""
  fi
}
trap stop EXIT

# Serves in the background, and sets $url when the server listens.
serve() { # log, arguments of annotate serve...
  local log=$1
  shift
  : >"$log"
  "$python" -m rahf.bin.annotate serve "$@" --port=0 >"$log" &
  server=$!
  for ((;;)); do
    url=$(grep -o 'https\?://[^ ]*$' "$log" || true)
    [[ -z $url ]] || return 0
    kill -0 "$server" 2>/dev/null || { server="" && return 1; }
    sleep 0.1
  done
}

# Serves, lets simulated raters answer everything, and writes their answers.
collect() { # name, further arguments of annotate serve...
  local pictures=$WORKDIR/$1 work=$WORKDIR/$1.work
  shift
  mkdir -p "$work"
  serve "$work/log.txt" "$pictures/prompts.jsonl" --images="$pictures" \
    --workdir="$work" "$@"
  cat "$work/log.txt"
  "$python" -m rahf.bin.annotate replay "$pictures/ratings.jsonl" \
    --images="$pictures" --workdir="$work" --url="$url"
  stop
  "$python" -m rahf.bin.annotate export --workdir="$work" \
    --output="$pictures.answers.jsonl"
}

# Whether two raters' files say the same about every image, whoever said it.
same_labels() { # file, file
  "$python" - "$@" <<'END'
import collections, json, pathlib, sys

def labels(path):
    rows = map(json.loads, pathlib.Path(path).read_text("utf-8").splitlines())
    said = ({k: v for k, v in r.items() if k not in ("rater", "seconds")} for r in rows)
    return collections.Counter(json.dumps(row, sort_keys=True) for row in said)

first, second = map(labels, sys.argv[1:])
if first != second:
    sys.exit(f"error: {sum((first - second).values())} labels of {sys.argv[1]} differ")
print(f"{sum(first.values())} labels, the same in both files")
END
}

pictures() { # name, further arguments of export_scenes...
  local name=$1
  shift
  [[ -e $WORKDIR/$name/ratings.jsonl ]] || "$python" -m rahf.bin.export_scenes \
    --output="$WORKDIR/$name" --difficulty=simple --size=128 "$@"
}

stage install install_rahf
mkdir -p "$WORKDIR"
stage pictures pictures first --split=train --examples="$EXAMPLES"
stage collect collect first
stage compare same_labels "$WORKDIR/first.answers.jsonl" "$WORKDIR/first/ratings.jsonl"
stage learn env CONFIG=configs/consolidated.py:demo bash launch/learn.sh \
  "$WORKDIR/first.work" "$WORKDIR/first" "$WORKDIR" --config.training_steps="$STEPS" "$@"
stage "next pictures" pictures next --split=dev --examples="$NEXT"
stage "next collect" collect next --order=uncertain --checkpoint="$WORKDIR/run"

printf '\n%s\n' "$summary"
echo "first answers          $WORKDIR/answers.jsonl, and what was learned from them beside"
echo "answers to the next    $WORKDIR/next.answers.jsonl"
