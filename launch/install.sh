# shellcheck shell=bash
# Sourced by launch/local.sh, tests/run.sh and others, from the repository's root.
#
# install_rahf: makes .venv (Python 3.11 or 3.12) if it does not exist, and installs
# the project with its extras in one resolver run. A stamp records what was
# installed, so a second call costs nothing until setup.py or pyproject.toml changes.
# PYTHON=/path/to/python chooses the interpreter; EXTRAS the extras of setup.py (test).
#
# fetch_python: for machines without one, such as a TPU VM.

# Prints the first Python 3.11 or 3.12 that runs and can make virtual environments.
# Being on the PATH is not enough: pyenv puts shims there that refuse to run.
find_python() {
  local candidate candidates=(python3.11 python3.12 python3 python
    "$HOME"/.pyenv/versions/3.1[12].*/bin/python)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c '
import sys, ensurepip, venv
raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: found no working Python 3.11 or 3.12 with venv and ensurepip among" >&2
  echo "${candidates[*]}" >&2
  echo "Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv)" >&2
  echo "or point to one: PYTHON=/path/to/python3.11 bash ${0}" >&2
  return 1
}

# Prints a Python 3.12 that uv downloads to the home folder; needs some python3 with pip.
fetch_python() {
  {
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user --disable-pip-version-check uv
    python3 -m uv python install --quiet 3.12
  } >&2 || return 1
  python3 -m uv python find 3.12
}

install_rahf() {
  local python stamp=.venv/rahf-installed wanted extras=${EXTRAS:-test}
  wanted="$(cat setup.py pyproject.toml | cksum) $extras"
  if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    return
  fi
  if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python=$(find_python) || return 1
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || return 1
  fi
  echo "Installing rahf and its dependencies: 3 to 4 GB, a few minutes (.venv/install.log)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --log .venv/install.log --editable ".[$extras]" || return 1
  echo "$wanted" >"$stamp"
}
