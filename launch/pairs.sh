#!/usr/bin/env bash
# Does it help, where few images have rich labels, to learn from choices between two?
#
# Three arms (configs/scenes_pairs.py): `rich` learns from RICH scenes with all feedback
# alone; `pairs` from these and PAIRS pairs of other scenes, of which a simulated rater says
# which looks better overall; `control` from the same pairs with choices by a coin. Each is
# trained with every seed and measured on the test split: all feedback, and how often its
# scores agree with choices on TEST_PAIRS pairs that no arm has seen. The table has the
# differences of the arms, with intervals over the seeds.
#
#   bash launch/pairs.sh
#   RICH=300 WORKDIR=runs/pairs_300 bash launch/pairs.sh
#   SPLIT=dev SEEDS="4 5" bash launch/pairs.sh
#   DRY_RUN=1 bash launch/pairs.sh  # prints the commands
#
# An estimate, not a measurement: a step of the demo takes .25 s on two idle cores of an
# AMD EPYC (docs/results_log.md). 700 steps are 3 minutes for `rich`, and 6 for each of
# the others, whose batches are twice as large: 15 minutes a seed, 45 for three; and about
# 15 s for each of the 36 evaluations. 54 minutes in all.
#
# The same command goes on with an interrupted run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

CONFIG=${CONFIG:-configs/scenes_pairs.py}
WORKDIR=${WORKDIR:-runs/pairs}
SEEDS=${SEEDS:-1 2 3}
RICH=${RICH:-1000}
PAIRS=${PAIRS:-20000}
TEST_PAIRS=${TEST_PAIRS:-1000}
STEPS=${STEPS:-700}
SPLIT=${SPLIT:-test}
EXAMPLES=${EXAMPLES:-0} # of the split; 0 = all
python=.venv/bin/python
arms=(rich pairs control)

run() {
  if [[ -n ${DRY_RUN:-} ]]; then echo "$*"; else "$@"; fi
}

learn() { # arm, seed, run
  local more=()
  [[ $1 == rich ]] || more=(--config.input.pairs_of_scenes.train_examples="$PAIRS")
  run "$python" -m rahf.bin.train --config="$CONFIG:$1" --workdir="$3" \
    --config.seed="$2" --config.training_steps="$STEPS" \
    --config.input.scenes.train_examples="$RICH" "${more[@]}"
}

evaluate() { # run; writes beside it
  local part out=$1.$SPLIT
  for part in heatmaps scores keywords; do
    [[ -e $out/$part.json ]] || run "$python" -m "rahf.bin.eval_$part" \
      --checkpoint="$1" --step=best --split="$SPLIT" --examples="$EXAMPLES" \
      --output="$out"
  done
  [[ -e $out/preferences.json ]] || run "$python" -m rahf.bin.eval_preferences \
    --checkpoint="$1" --step=best --pairs="$WORKDIR/$SPLIT.parquet" --output="$out"
}

# Writes pairs of scenes that nothing learns from, in the form of Pick-a-Pic.
write_pairs() { # file, split, number
  [[ -e $1 ]] || "$python" - "$@" <<'END'
import io, pathlib, sys

import pyarrow
import pyarrow.parquet
from PIL import Image

from rahf import durable
from rahf.datasets.scenes.pairs import ScenePairs

output, split, number = sys.argv[1:]

def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()

rows = []
for pair in ScenePairs(split, 64, difficulty="simple", num_examples=int(number)):
    other, share = pair["other"], pair["overall_preference"]
    rows.append(
        {
            "image_0_uid": pair["uid"],
            "image_1_uid": other["uid"],
            "jpg_0": png(pair["image"]),
            "jpg_1": png(other["image"]),
            "caption": pair["prompt"],
            "label_0": share,
            "label_1": 1 - share,
            "has_label": True,
        }
    )
with durable.writing(pathlib.Path(output)) as temporary:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
END
}

if [[ -z ${DRY_RUN:-} ]]; then
  install_rahf
  mkdir -p "$WORKDIR"
  write_pairs "$WORKDIR/$SPLIT.parquet" "$SPLIT" "$TEST_PAIRS"
fi
for seed in $SEEDS; do
  for arm in "${arms[@]}"; do
    learn "$arm" "$seed" "$WORKDIR/$arm$seed"
    evaluate "$WORKDIR/$arm$seed"
  done
done
[[ -z ${DRY_RUN:-} ]] || exit 0
"$python" - "$WORKDIR" "$SPLIT" "$SEEDS" <<'END' | tee "$WORKDIR/$SPLIT.txt"
import json, pathlib, sys

import numpy as np
from scipy import stats

from rahf import targets
from rahf.evaluation.metrics import table

folder, split, seeds = sys.argv[1:]
seeds, arms = seeds.split(), ("rich", "pairs", "control")
files = {
    targets.Kind.SCORE: "scores",
    targets.Kind.HEATMAP: "heatmaps",
    targets.Kind.WORDS: "keywords",
}

def metrics_of(run, file):
    path = pathlib.Path(folder, f"{run}.{split}", f"{file}.json")
    return json.loads(path.read_text("utf-8"))["metrics"]

def read(run):
    found = {}
    for target, values in metrics_of(run, "preferences").items():
        for metric in ("accuracy", "accuracy_without_ties"):
            found[f"{target}, choices", metric] = values[metric]
    for kind, file in files.items():
        for target, values in metrics_of(run, file).items():
            for metric in table.NAMES[kind]:
                found[target, metric] = values.get(metric, np.nan)
    return found

rows = {arm: [read(arm + seed) for seed in seeds] for arm in arms}
# The half width of the 95 % interval of a mean of so few differences, by Student's t.
factor = stats.t.ppf(0.975, len(seeds) - 1) / np.sqrt(len(seeds))

def difference(values, other):
    apart = values["pairs"] - values[other]
    interval = factor * apart.std(ddof=1) if len(seeds) > 1 else np.nan
    return f"  {apart.mean():+.3f} ± {interval:.3f}"

print(f"{split} split, mean of seeds {' '.join(seeds)}; ± is a 95 % interval over them")
titles = "".join(f"{name:>10}" for name in arms)
print(f"{'':42}{titles}  pairs - rich    pairs - control  pairs - rich by seed")
for key in rows["rich"][0]:
    values = {arm: np.array([row[key] for row in rows[arm]], float) for arm in arms}
    means = "".join(f"{values[arm].mean():10.3f}" for arm in arms)
    arrow = {"higher": "^", "lower": "v"}[table.DESCRIPTIONS[key[1]].better]
    each = " ".join(f"{x:+.3f}" for x in values["pairs"] - values["rich"])
    apart = difference(values, "rich") + difference(values, "control")
    print(f"{f'{key[0]} {key[1]} {arrow}':42}{means}{apart}   {each}")
END
