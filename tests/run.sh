#!/usr/bin/env bash
# Installs if needed, then checks style, types and every test.
#   bash tests/run.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh
install_rahf

# XLA's compiler for TPUs, in a folder that only its test has on the path: wherever JAX
# finds libtpu, it looks for a TPU at every start, and complains that there is none.
if [[ ! -d .venv/tpu/libtpu ]]; then
  .venv/bin/python -m pip install --quiet --no-deps --target .venv/tpu "$(
    .venv/bin/python -c '
from importlib.metadata import requires
print(next(line.split(";")[0] for line in requires("jax") if "libtpu" in line))'
  )"
fi

# The version of PyTorch whose build for CPUs, without 3 GB for GPUs, pip may find.
if [[ ! -d $(echo .venv/lib/python3.*/site-packages)/diffusers ]]; then
  .venv/bin/python -m pip install --quiet --editable ".[diffusers]" "torch==2.13.*"
fi

.venv/bin/python -m tests.support.chromium || true # without, those tests are skipped
.venv/bin/python -m rahf.bin.machine # to read the times below by
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
# Hundreds of processes would each compile the code of rahf/ and tests/ for itself.
unset PYTHONDONTWRITEBYTECODE
# worksteal: a worker runs whole files as far as it can, whose fixtures are then made once.
.venv/bin/python -m pytest -n "${WORKERS:-2}" --dist worksteal --durations=15 "$@"
