#!/usr/bin/env bash
# Installs T5X beside rahf, in .venv (docs/t5x.md):
#   bash launch/install_t5x.sh
#
# The name `t5x` on PyPI is an empty placeholder, and T5X requires the newest versions
# of its dependencies, straight from git. So everything is installed without
# dependencies, and JAX, Flax, Orbax and TensorFlow stay at rahf's versions. The three
# packages that are only on git are fetched at the commits this was tested with and put
# on the path as they are (one has no setup.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SOURCES=(
  "https://github.com/google-research/t5x cc342d419ec3e3e9c4bf1df33c82330cafdc1e16"
  "https://github.com/google/airio 69897df7d9a427b947a9f7bb4164c7782b43e601"
  "https://github.com/google-research/jestimator 326824a477feef6d92e6f44175000907a72899ca"
)
python=.venv/bin/python
[[ -x $python ]] || { echo "error: no .venv; run bash tests/run.sh first" >&2; exit 1; }

folder=$PWD/.venv/t5x
paths=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/t5x.pth
mkdir -p "$folder"
: >"$paths"
for source in "${SOURCES[@]}"; do
  read -r url commit <<<"$source"
  name=${url##*/}
  git init --quiet "$folder/$name"
  git -C "$folder/$name" fetch --quiet --depth=1 "$url" "$commit"
  git -C "$folder/$name" checkout --quiet --force FETCH_HEAD
  echo "$folder/$name" >>"$paths"
done
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  cached_property fiddle gin-config jaxtyping libcst tensorboard wadler-lindig
"$python" -c 'import t5x.train; print("T5X is installed:", t5x.__path__[0])'
