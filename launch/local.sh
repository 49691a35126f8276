#!/usr/bin/env bash
# All of RAHF in miniature: installs into .venv, then trains, evaluates, predicts and
# writes a page of pictures, all on the embedded dataset.
#
#   bash launch/local.sh
#   WORKDIR=runs/mine CONFIG=configs/scenes_multihead.py bash launch/local.sh --config.seed=1
#
# Further arguments go to rahf.bin.train. The same command resumes an interrupted run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

CONFIG=${CONFIG:-configs/scenes_demo.py}
WORKDIR=${WORKDIR:-runs/scenes_demo}
SPLIT=${SPLIT:-test}

summary=""
stage() { # name, command...
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@"
  summary+=$(printf '%-18s %5d s' "$name" "$((SECONDS - start))")$'\n'
}
python=.venv/bin/python

stage install install_rahf
"$python" -m rahf.bin.machine
stage train "$python" -m rahf.bin.train --config="$CONFIG" --workdir="$WORKDIR" "$@"
for part in heatmaps scores keywords; do
  stage "eval $part" "$python" -m "rahf.bin.eval_$part" \
    --checkpoint="$WORKDIR" --split="$SPLIT"
done
stage pictures "$python" -m rahf.bin.export_scenes \
  --output="$WORKDIR/pictures" --examples=8 --difficulty=simple
rm -rf "$WORKDIR/predictions" # so that those of an earlier step are not mixed in
stage predict "$python" -m rahf.bin.predict "$WORKDIR/pictures" \
  --checkpoint="$WORKDIR" --output="$WORKDIR/predictions"
stage report "$python" -m rahf.bin.report --checkpoint="$WORKDIR" --split="$SPLIT"

printf '\n%s\n' "$summary"
echo "checkpoint and curves  $WORKDIR  (tensorboard --logdir=$WORKDIR)"
echo "tables                 $WORKDIR/eval/$SPLIT"
echo "predictions            $WORKDIR/predictions"
echo "the page to look at    $WORKDIR/report.html"
