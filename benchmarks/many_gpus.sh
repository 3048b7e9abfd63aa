#!/usr/bin/env bash
# What four, eight or any number of GPUs of one machine do together: the longest texts, a 70B shape, fine-tuning over
# shards, and an evaluation that is split. Weights are random but for the evaluation's. Each part ends on its own clock
# and leaves its log, and what is finished is not run again.
#
#     bash benchmarks/many_gpus.sh OUT [PART...]
#
# Parts: llama2 and llama70 in transformers, llama2-vllm and llama70-vllm with the plug-in, finetune, evaluate. llama70
# needs 141 GB of disk, in OUT; llama2 uses no more than 80 GB of each GPU. Another python: PYTHON=..., and its vLLM's:
# VLLM_PYTHON=... To try it on less: LAYERS, LENGTH, STEPS and LINES (of the dialogues) of finetune, LENGTHS of
# evaluate, and GPUS.
set -uo pipefail
out=${1:?a folder for the logs}
shift
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
vllm=${VLLM_PYTHON:-$python}
gpus=${GPUS:-$("$python" -c "import torch; print(torch.cuda.device_count())")}
[ "$gpus" -ge 2 ] || { echo "many_gpus.sh needs two GPUs at least, and finds $gpus" >&2; exit 2; }

# shellcheck source=benchmarks/parts.sh
. benchmarks/parts.sh

# The same steps of LoRA over all GPUs, two and one: two rows a step for each GPU there is, whoever takes them.
finetune() {
    local model=$out/llama-3-8b data=$out/dialogues.json all=${LAYERS:-}
    [ -f "$model/config.json" ] || "$python" -c "
import sys; sys.path.insert(0, 'benchmarks')
from pathlib import Path
from shapes import write_checkpoint
write_checkpoint('llama-3-8b', Path('$model'), int('$all' or 0) or None, '${DEVICE:-cuda}')" || return 1
    [ -f "$data" ] || "$python" -c "
import json, random
draw = random.Random(0)
words = [line.strip() for line in open('README.md') if line.strip()]
said = lambda n: ' '.join(draw.choice(words) for _ in range(n))
rows = [{'messages': [{'role': 'user', 'content': 'Go on.'}, {'role': 'assistant', 'content': said(${LINES:-1500})}]}
        for _ in range(4 * $gpus)]
json.dump(rows, open('$data', 'w'))" || return 1
    local count
    for count in "$gpus" 2 1; do
        [ "$count" = 2 ] && [ "$gpus" = 2 ] && continue
        echo "== $count GPUs"
        local steps=(--data "$data" --length "${LENGTH:-16k}" --steps "${STEPS:-6}" --warmup 0)
        steps+=(--lora 16 --dtype bfloat16 --accumulate $((2 * gpus / count)) --save-every 1000 --no-verify --force)
        steps+=(--out "$out/tuned-$count")
        if [ "$count" = 1 ]; then
            CUDA_VISIBLE_DEVICES=0 "$python" -m dca_hub finetune "$model" "${steps[@]}" || return 1
        else
            "$python" -m accelerate.commands.launch --config_file dca_hub/training/fsdp2.yaml --num_processes "$count" \
                -m dca_hub finetune "$model" "${steps[@]}" || return 1
        fi
    done
}

# Every key that one process finds, `gpus` processes find too.
evaluate() {
    local keys=(passkey demo --lengths "${LENGTHS:-1k,4k,16k}" --depths 8 --plain)
    "$python" -m dca_hub "${keys[@]}" --out "$out/one.jsonl" || return 1
    "$python" -m torch.distributed.run --standalone --nproc-per-node "$gpus" -m dca_hub "${keys[@]}" \
        --out "$out/split.jsonl" || return 1
    "$python" - "$out/one.jsonl" "$out/split.jsonl" <<'P'
import json
import sys


def answers(path):
    rows = [json.loads(line) for line in open(path)]
    return sorted((r["variant"], r["length"], r["depth"], r["answer"]) for r in rows if "answer" in r)


one, split = map(answers, sys.argv[1:])
print(f"{len(one)} answers of one process, {sum(a == b for a, b in zip(one, split))} of {len(split)} split ones equal")
sys.exit(not one or one != split)
P
}

parts=("$@")
[ $# -gt 0 ] || parts=(llama2 llama2-vllm llama70 llama70-vllm finetune evaluate)
failed=0
several=("$python" benchmarks/several_gpus.py --ways parallel --repeats 1 --folder "$out")
turns=("$vllm" benchmarks/vllm_throughput.py --tensor-parallel "$gpus")
export -f finetune evaluate
export out python gpus
part llama2 1800 "${several[@]}" --shape llama-2-7b --gib 80 --lengths 131072 409600 917504
part llama2-vllm 1800 "${turns[@]}" --shape llama-2-7b --case 1x131072x128 --case 1x409600x128 --case 1x917504x128
part llama70 1800 "${several[@]}" --shape llama-3-70b --lengths 131072 204800
part llama70-vllm 1800 "${turns[@]}" --shape llama-3-70b --case 1x131072x128 --case 1x204800x128
part finetune 1200 bash -c finetune
part evaluate 600 bash -c evaluate
exit $failed
