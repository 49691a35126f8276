#!/usr/bin/env bash
# What raters said -> a training set, a report of their agreement, and a model.
#
#   bash launch/learn.sh W pictures runs/mine
#   CONFIG=configs/consolidated.py:demo bash launch/learn.sh ratings.jsonl pictures \
#       runs/mine --config.training_steps=600
#
# W is the workdir of `annotate serve`, which may be running, or a raters' file; then the
# folder of the images, and the folder to write. Further arguments go to rahf.bin.train.
# The same command goes on with an interrupted run; where there are more answers than
# before, it asks for another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

if (($# < 3)); then
  sed -n '2,/^set -e/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
said=$1 images=$2 output=$3
shift 3
CONFIG=${CONFIG:-configs/consolidated.py}
python=.venv/bin/python
answers=$output/answers.jsonl

stage() { # name, command...
  printf '\n== %s: %s\n' "$1" "${*:2}"
  "${@:2}"
}

answers() {
  if [[ -d $said ]]; then
    "$python" -m rahf.bin.annotate export --workdir="$said" --output="$answers.new"
  else
    cp -- "$said" "$answers.new"
  fi
  if [[ -e $answers ]] && ! cmp -s "$answers" "$answers.new"; then
    rm -f "$answers.new"
    echo "error: $answers was made of other answers than $said has now;" \
      "give another folder" >&2
    return 1
  fi
  mv -- "$answers.new" "$answers"
}

consolidate() {
  [[ -e $output/data/consolidated ]] || "$python" -m rahf.bin.consolidate "$answers" \
    --images="$images" --output="$output/data"
}

stage install install_rahf
mkdir -p "$output"
stage answers answers
stage agreement "$python" -m rahf.bin.agreement "$answers" --images="$images" \
  --output="$output/agreement"
stage consolidate consolidate
stage train "$python" -m rahf.bin.train --config="$CONFIG" --workdir="$output/run" \
  --config.input.consolidated.data_dir="$output/data" "$@"
for part in heatmaps scores keywords; do
  stage "eval $part" "$python" -m "rahf.bin.eval_$part" --checkpoint="$output/run" \
    --split=test
done
stage report "$python" -m rahf.bin.report --checkpoint="$output/run" --split=test

echo
echo "what raters said       $answers"
echo "the training set       $output/data"
echo "how far raters agree   $output/agreement/agreement.html"
echo "checkpoint and curves  $output/run  (tensorboard --logdir=$output/run)"
echo "the page to look at    $output/run/report.html"
