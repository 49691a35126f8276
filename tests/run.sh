#!/usr/bin/env bash
# Installs if needed, then checks style, types and every test.
#   bash tests/run.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/install.sh
install_rahf

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
.venv/bin/python -m pytest -n "${WORKERS:-2}" --durations=15 "$@"
