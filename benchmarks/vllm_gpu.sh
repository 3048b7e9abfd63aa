#!/usr/bin/env bash
# Everything about the vLLM plug-in that needs a GPU, in one call: what its engine gives against transformers, eager, with
# CUDA graphs and compiled, with speculative decoding and pages of every size, on two GPUs where there are two; and its
# speed. About 25 minutes on an H200; each part ends on its own clock and leaves its log, and what is finished is not run
# again.
#
#     bash benchmarks/vllm_gpu.sh OUT [PART...]         parts: engine spec pages tensor layer throughput
#
# Another python, with vLLM for CUDA and this package: PYTHON=... Without flashinfer: VLLM_USE_FLASHINFER_SAMPLER=0.
set -uo pipefail
out=${1:?a folder for the logs}
shift
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
tests="-m pytest -p no:cacheprovider -q -m gpu tests/vllm_plugin/test_cuda_engine.py"

# shellcheck source=benchmarks/parts.sh
. benchmarks/parts.sh

parts=("$@")
[ $# -gt 0 ] || parts=(engine spec pages tensor layer throughput)
failed=0
"$python" -c "import vllm, torch; print(vllm.__version__, torch.__version__, torch.cuda.get_device_name(), torch.cuda.device_count())" | tee "$out/versions"
part engine 560 "$python" $tests -k test_on_a_gpu
part spec 560 "$python" $tests -k test_speculative_decoding
part pages 240 "$python" $tests -k test_pages_of_other_sizes
part tensor 400 "$python" $tests -k test_two_gpus
part layer 400 "$python" benchmarks/vllm_attention_cuda.py
part throughput 590 "$python" benchmarks/vllm_throughput.py
exit $failed
