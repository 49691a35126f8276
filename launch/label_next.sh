#!/usr/bin/env bash
# Does it pay to label first what a model is least sure of?
#
# A model meets pictures of another kind: the demo, trained on "simple" scenes, a pool of
# "full" ones. Simulated raters label FIRST of them, drawn at random, and a model learns
# from these. LABELS more are then chosen, at random or by the uncertainty of that model,
# as `annotate serve --order` does, and the demo is trained anew on all labels. The table
# compares both on the test split; docs/results_log.md has what came out.
#
#   bash launch/local.sh && bash launch/label_next.sh
#   FIRST=0 LABELS=400 WORKDIR=runs/other bash launch/label_next.sh  # the demo chooses
#   SPLIT=dev SEEDS="4 5" bash launch/label_next.sh
#
# The same command goes on with an interrupted run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh

MODEL=${MODEL:-runs/scenes_demo}
WORKDIR=${WORKDIR:-runs/label_next}
SEEDS=${SEEDS:-1 2 3}
POOL=${POOL:-2000}
FIRST=${FIRST:-300}
LABELS=${LABELS:-300}
STEPS=${STEPS:-300}
PEAK=${PEAK:-0.004}
SPLIT=${SPLIT:-test}
EXAMPLES=${EXAMPLES:-0} # of the split; 0 = all
python=.venv/bin/python

# Writes the ratings of the images of an earlier choice and of the next ones in an order.
choose() { # pool, order, checkpoint or "", seed, number, earlier choice or "", output
  [[ -e $7 ]] || "$python" - "$@" <<'END'
import json, pathlib, sys

from rahf import durable
from rahf.annotation import ordering, store
from rahf.annotation.formats import task_sources

pool, order, checkpoint, seed, number, before, output = sys.argv[1:]
folder = pathlib.Path(pool)
said = pathlib.Path(before).read_text("utf-8") if before else ""
known = {json.loads(line)["image"] for line in said.splitlines()}
tasks = task_sources.read_tasks(f"{pool}/prompts.jsonl", folder)
with store.open_store(f"{output}.work") as opened:
    opened.add_images((t for t in tasks if t[0].image not in known), raters=1)
    ordering.arrange(
        opened, order, folder=folder, checkpoint=checkpoint or None, seed=int(seed)
    )
    query = "SELECT image FROM images ORDER BY position LIMIT ?"
    chosen = {image for [image] in opened.read(query, int(number))}
for line in (folder / "ratings.jsonl").read_text("utf-8").splitlines():
    said += line + "\n" if json.loads(line)["image"] in chosen else ""
durable.write_text(pathlib.Path(output), said)
END
}

evaluate() { # checkpoint, output
  local part
  for part in heatmaps scores keywords; do
    [[ -e $2/$part.json ]] || "$python" -m "rahf.bin.eval_$part" --checkpoint="$1" \
      --split="$SPLIT" --examples="$EXAMPLES" --output="$2" \
      --set=task.name=scenes_multihead_word_presence \
      --set=input.scenes.difficulty=full \
      --set=input.text_length=48 --set=input.target_length=48 >/dev/null
  done
}

learn() { # run, folder of the pool, seed; from run.jsonl
  local run=$1 pool=$2 seed=$3
  [[ -e $run.data/consolidated ]] || "$python" -m rahf.bin.consolidate "$run.jsonl" \
    --images="$pool" --output="$run.data" --dev_share=0 --test_share=0
  "$python" -m rahf.bin.train --config=configs/consolidated.py:demo --workdir="$run" \
    --config.input.consolidated.data_dir="$run.data" --config.seed="$seed" \
    --config.init_from="$MODEL" --config.training_steps="$STEPS" \
    --config.schedule.peak="$PEAK" --config.schedule.warmup_steps=30 \
    --config.input.text_length=48 --config.input.target_length=48 \
    --config.eval.split=train --config.eval.every_steps="$STEPS" \
    --config.checkpoint.every_steps="$STEPS"
  evaluate "$run" "$run.$SPLIT"
}

install_rahf
mkdir -p "$WORKDIR"
evaluate "$MODEL" "$WORKDIR/demo.$SPLIT"
for seed in $SEEDS; do
  pool=$WORKDIR/pool$seed first=$WORKDIR/first$seed
  [[ -e $pool/ratings.jsonl ]] || "$python" -m rahf.bin.export_scenes \
    --output="$pool" --split=train --examples="$POOL" --size=64 --seed="$seed"
  model=$MODEL earlier=
  if ((FIRST)); then
    choose "$pool" random "" "$seed" "$FIRST" "" "$first.jsonl"
    learn "$first" "$pool" "$seed"
    model=$first earlier=$first.jsonl
  fi
  for order in random uncertain; do
    [[ $order == random ]] && asked="" || asked=$model
    run=$WORKDIR/$order$seed
    choose "$pool" $order "$asked" "$seed" "$LABELS" "$earlier" "$run.jsonl"
    learn "$run" "$pool" "$seed"
  done
done
"$python" - "$WORKDIR" "$SPLIT" "$SEEDS" "$FIRST" <<'END'
import json, pathlib, sys

import numpy as np
from scipy import stats

from rahf import targets
from rahf.evaluation.metrics import table

folder, split, seeds, first = sys.argv[1:]
seeds = seeds.split()
files = {
    targets.Kind.SCORE: "scores",
    targets.Kind.HEATMAP: "heatmaps",
    targets.Kind.WORDS: "keywords",
}

def read(name):
    found = {}
    for kind, file in files.items():
        path = pathlib.Path(folder, f"{name}.{split}", f"{file}.json")
        metrics = json.loads(path.read_text("utf-8"))["metrics"]
        for target, values in metrics.items():
            for metric in table.NAMES[kind]:
                found[target, metric] = values.get(metric, np.nan)
    return found

demo = read("demo")
arms = ["random", "uncertain"] if first == "0" else ["first", "random", "uncertain"]
rows = {arm: [read(arm + seed) for seed in seeds] for arm in arms}
# The half width of the 95 % interval of a mean of so few differences, by Student's t.
factor = stats.t.ppf(0.975, len(seeds) - 1) / np.sqrt(len(seeds))
print(f"{split} split, mean of seeds {' '.join(seeds)}; difference: uncertain - random")
titles = "".join(f"{name:>10}" for name in ["demo", *arms])
print(f"{'':35}{titles}  difference        by seed")
for key in demo:
    values = {arm: np.array([row[key] for row in rows[arm]]) for arm in arms}
    apart = values["uncertain"] - values["random"]
    interval = factor * apart.std(ddof=1) if len(seeds) > 1 else np.nan
    means = "".join(f"{v:10.3f}" for v in [demo[key], *(v.mean() for v in values.values())])
    arrow = {"higher": "^", "lower": "v"}[table.DESCRIPTIONS[key[1]].better]
    name = f"{key[0]} {key[1]} {arrow}"
    each = " ".join(f"{value:+.3f}" for value in apart)
    print(f"{name:35}{means}  {apart.mean():+.3f} ± {interval:.3f}  {each}")
END
