#!/usr/bin/env bash
# Closes the loop: a generator of scenes learns from predicted feedback, and a model that
# had no part in it judges.
#
#   CONFIG=configs/scenes_multihead.py WORKDIR=runs/scenes bash launch/local.sh
#   bash launch/improve.sh
#   REWARDS=runs/mine bash launch/improve.sh --rounds=1 --arms=chosen,random
#
# What is missing is trained first: the generator (GENERATOR, with its tokenizer) and the
# judge (JUDGE). REWARDS, the model that chooses, must be there. Further arguments go to
# rahf.bin.improve. The same command goes on with an interrupted run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

REWARDS=${REWARDS:-runs/scenes}
GENERATOR=${GENERATOR:-runs/muse}
JUDGE=${JUDGE:-runs/scenes_judge}
JUDGE_CONFIG=${JUDGE_CONFIG:-configs/scenes_judge.py}
WORKDIR=${WORKDIR:-runs/improved}
python=.venv/bin/python

stage() { # name, command...
  printf '\n== %s: %s\n' "$1" "${*:2}"
  "${@:2}"
}

if [[ ! -e $REWARDS/config.json ]]; then
  echo "error: $REWARDS has no checkpoint of a model that predicts feedback; train one" \
    "(bash launch/local.sh, or configs/scenes.py), or name it with REWARDS=" >&2
  exit 2
fi
stage install install_rahf
stage tokenizer "$python" -m rahf.bin.train --config=configs/muse_scenes.py:tokenizer \
  --workdir="${GENERATOR}_tokenizer"
stage generator "$python" -m rahf.bin.train --config=configs/muse_scenes.py \
  --workdir="$GENERATOR" --config.init_from="${GENERATOR}_tokenizer"
stage judge "$python" -m rahf.bin.train --config="$JUDGE_CONFIG" --workdir="$JUDGE"
stage improve "$python" -m rahf.bin.improve --config=configs/muse_scenes.py:folder \
  --generator="$GENERATOR" --rewards="$REWARDS" --judge="$JUDGE" \
  --workdir="$WORKDIR" "$@"

echo
echo "all numbers         $WORKDIR/results.json"
echo "the page to look at $WORKDIR/report.html"
