#!/usr/bin/env bash
# What Dual Chunk Attention does to a real model, SmolLM2-135M-Instruct (window 8,192): sizes chosen on one text,
# perplexity and pass keys on another, and two questions over a PDF. Files of JSON lines, and a report, in OUT. What is
# finished is not measured again, so it can be stopped and started. The whole needs a GPU; --short is for a CPU.
#
#     bash benchmarks/real_model.sh OUT UNSEEN.txt.gz TUNING.txt.gz PAPER.pdf [--short]
#
# UNSEEN and TUNING are different novels; PAPER has 2 to 4 times the window in tokens. A checkpoint that is here
# already: MODEL=DIR (no network is needed then). Another python: PYTHON=...
set -euo pipefail
out=${1:?a folder for the results} unseen=${2:?novels to report on} tuning=${3:?other novels, to choose the sizes with}
paper=${4:?a PDF of 2 to 4 times the window} short=${5:-}
mkdir -p "$out"
out=$(realpath "$out") unseen=$(realpath "$unseen") tuning=$(realpath "$tuning") paper=$(realpath "$paper")
model=$(realpath "${MODEL:-$out/smollm2-135m-instruct}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
dca() { "$python" -m dca_hub "$@"; }

if [ "$short" = --short ]; then
    lengths=2k,8k,16k windows=1 keys=512,2k depths=3 trials=1 tune_times=2
else
    lengths=8k,16k,32k,64k,128k windows=20 keys=4k,8k,16k,32k,64k,128k depths=11 trials=5 tune_times=8
fi

[ -f "$model/config.json" ] || "$python" benchmarks/real_model.py "$model"

# The sizes that `package` chooses by itself, and those chosen on other novels than the ones reported on.
if [ "$short" = --short ]; then
    [ -d "$out/tuned" ] || dca package "$model" --weights link --out "$out/tuned" --chunk-size 7680 --local-size 512
else
    [ -d "$out/tuned" ] || dca package "$model" --weights link --out "$out/tuned" --tune "$tuning" \
        --tune-times $tune_times 2> "$out/tuning.log"
fi
dca perplexity "$model" --text "$unseen" --lengths $lengths --windows $windows --plain \
    --compare ntk,yarn,dca+yarn --out "$out/perplexity.jsonl"
dca perplexity "$out/tuned" --text "$unseen" --lengths $lengths --windows $windows --out "$out/perplexity-tuned.jsonl"
if [ "$short" != --short ]; then
    for temperature in 0.05 0.1; do
        [ -d "$out/warm-$temperature" ] || dca package "$model" --weights link --out "$out/warm-$temperature" \
            --temperature $temperature
        dca perplexity "$out/warm-$temperature" --text "$unseen" --lengths $lengths --windows $windows \
            --out "$out/perplexity-$temperature.jsonl"
    done
fi
# Pass keys in the chat format, with the sizes chosen and with the usual ones; and the scalings without DCA.
dca needle "$out/tuned" --lengths $keys --depths $depths --trials $trials --haystack "$unseen" --plain \
    --compare ntk,yarn --out "$out/needle-tuned.jsonl"
dca needle "$model" --lengths $keys --depths $depths --trials $trials --haystack "$unseen" --out "$out/needle.jsonl"

if [ "$short" = --short ]; then pages=(--pages 1-4); else pages=(); fi
ask() { # NAME QUESTION [OPTIONS]: one JSON object a file
    local name=$1 question=$2
    shift 2
    [ -s "$out/ask-$name.json" ] || { dca ask "$out/tuned" "$question" --pdf "$paper" --json --max-new-tokens 120 \
        ${pages[@]+"${pages[@]}"} "$@" > "$out/ask-$name.part" && mv "$out/ask-$name.part" "$out/ask-$name.json"; }
}
ask about-dca "What is this document about?"
ask about-plain "What is this document about?" --no-dca
ask first-dca "What does the first section say?"
ask first-plain "What does the first section say?" --no-dca
dca report "$out"
