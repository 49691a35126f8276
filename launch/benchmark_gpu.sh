#!/usr/bin/env bash
# The paper's model on one GPU: how fast it trains and predicts, at which share of the
# card's measured peak, and how that compares with compiled PyTorch. About ten minutes, most
# of them compiling.
#
#   bash launch/benchmark_gpu.sh OUTPUT
#   PYTHON=python3 TORCH_PYTHON=python3 bash launch/benchmark_gpu.sh OUTPUT
#
# PYTHON (.venv/bin/python) has JAX for the GPU; TORCH_PYTHON, if given, has torch and
# transformers. OUTPUT gets JSON files, one a line below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($# != 1)); then
  sed -n '2,/^set -e/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
output=$1
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p "$output"
measure() { "$PYTHON" -m "rahf.bin.benchmark_$1" --dtype=bfloat16 "${@:2}"; }

measure step --config=rahf_base --heads=light,paper --remat=none --batch=32 \
  --output="$output/step.json"
measure predict --config=rahf_base_multihead --heads=light,paper --text_length=32 \
  --batch=8,64 --output="$output/predict.json"
if [[ -n ${TORCH_PYTHON:-} ]]; then
  "$TORCH_PYTHON" -m tests.parity.compiled_torch --output="$output/torch.json"
fi
