#!/usr/bin/env bash
# Every measurement of docs/evidence.md with the demo model, and their pictures: about an hour and a half on one core.
# What is finished is not measured again, so it can be stopped and started.
#
#     bash benchmarks/evidence.sh OUT UNSEEN.txt.gz TRAINING.txt.gz
#
# UNSEEN holds novels that the model was not trained on, TRAINING ones to make dialogues of. Fine-tuning needs
# requirements-finetune.txt. Another python: PYTHON=...
set -euo pipefail
out=${1:?a folder for the results} unseen=${2:?novels that the model has not seen} training=${3:?novels to train with}
mkdir -p "$out"
out=$(realpath "$out") unseen=$(realpath "$unseen") training=$(realpath "$training")
cd "$(dirname "$0")/.."
dca() { "${PYTHON:-python}" -m dca_hub "$@"; }

dca perplexity demo --text "$unseen" --lengths 512,1k,2k,4k,8k,16k --windows 32 --plain --compare no-temperature \
    --out "$out/perplexity.jsonl"
dca needle demo --lengths 512,1k,1536,2k,3k,4k,8k,16k --depths 11 --plain --out "$out/needle.jsonl"
dca perplexity demo --text "$unseen" --lengths 512,1k,2k,4k,8k --windows 4 --compare intra,intra+inter \
    --out "$out/ablation.jsonl"
dca passkey demo --haystack prose --lengths 512,1k,2k,4k --depths 11 --compare intra,intra+inter \
    --out "$out/ablation-passkey.jsonl"
dca perplexity demo --text "$unseen" --lengths 512,1k,2k,4k,8k --windows 4 --plain \
    --compare linear,ntk,yarn,dca+linear,dca+ntk,dca+yarn --out "$out/scaling.jsonl"

# A short fine-tuning at 4 times the trained window: sixteen keys in each text, and a question for each of them.
if [ ! -d "$out/tuned" ]; then
    "${PYTHON:-python}" -m dca_hub.training.example --text "$training" --out "$out/dialogues.json" --count 200 --keys 16
    dca finetune demo --data "$out/dialogues.json" --out "$out/tuned" --length 2k --steps 80 --accumulate 1 \
        --learning-rate 3e-4
fi
for model in demo "$out/tuned"; do
    dca needle "$model" --lengths 2k,4k --depths 5 --trials 4 --needles 16 --haystack "$unseen" \
        --out "$out/sixteen-needles-$(basename "$model").jsonl"
done
"${PYTHON:-python}" benchmarks/gradients.py
dca report "$out"
