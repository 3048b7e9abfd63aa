#!/usr/bin/env bash
# What Dual Chunk Attention does to a real model, SmolLM2-135M-Instruct (window 8,192): sizes chosen on one text,
# perplexity and needles on another, RULER, and questions about a document. Files of JSON lines, pictures, a transcript
# and a report, in OUT. What is finished is not measured again, so it can be stopped and started, part by part.
#
#     bash benchmarks/real_model.sh OUT UNSEEN.txt.gz TUNING.txt.gz PAPER.pdf [--short] [--only PART,PART]
#
# UNSEEN and TUNING are different novels; PAPER has 2 to 4 times the window in tokens, such as the file fhs-3.0.pdf.gz
# of Debian's package debian-policy, unpacked. PART is tune, perplexity, needle, passkey, paper, ruler or report. The
# whole needs a GPU; --short, for two cores, is perplexity at two lengths and the questions, with sizes that were chosen
# on a GPU.
# Environment: MODEL=PATH, a checkpoint or a GGUF file that is here already (no network is needed then); PYTHON=...; and
# other sizes than the usual: LENGTHS, WINDOWS, NEEDLES, DEPTHS, TRIALS, PAGES (of PAPER), TIMES (of the window, to tune
# at), and RULER and LIMIT, its lengths and prompts a task (it needs requirements-evaluate.txt).
set -euo pipefail
usage="usage: real_model.sh OUT UNSEEN.txt.gz TUNING.txt.gz PAPER.pdf [--short] [--only PART,PART]"
out=${1:?$usage} unseen=${2:?$usage} tuning=${3:?$usage} paper=${4:?$usage}
shift 4
short='' only=tune,perplexity,needle,passkey,paper,ruler,report
while [ $# -gt 0 ]; do
    case $1 in
        --short) short=yes; shift ;;
        --only) only=${2:?$usage}; shift 2 ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
done
for part in ${only//,/ }; do
    case $part in tune | perplexity | needle | passkey | paper | ruler | report) ;;
        *) echo "there is no part $part; $usage" >&2; exit 2 ;;
    esac
done
mkdir -p "$out"
out=$(realpath "$out") unseen=$(realpath "$unseen") tuning=$(realpath "$tuning") paper=$(realpath "$paper")
model=$(realpath "${MODEL:-$out/smollm2-135m-instruct}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
dca() { echo "+ dca-hub $*" >&2; "$python" -m dca_hub "$@"; }
wanted() { [[ ,$only, == *,$1,* ]]; }

if [ -n "$short" ]; then
    lengths=${LENGTHS:-2k,9k} windows=${WINDOWS:-1} compare=() needles= depths= trials= scaled=() answers=60
    pages=${PAGES-1-32} # of fhs-3.0.pdf: twice the window, most of the time
else
    lengths=${LENGTHS:-8k,16k,32k,64k,128k} windows=${WINDOWS:-20} needles=${NEEDLES:-4k,8k,16k,32k,64k,128k}
    depths=${DEPTHS:-11} trials=${TRIALS:-5} answers=120 pages=${PAGES-}
    compare=(--compare ntk,yarn,dca+yarn) scaled=(--compare ntk,yarn)
fi

[ -f "$model" ] || [ -f "$model/config.json" ] || "$python" benchmarks/real_model.py "$model"

# In its chat format this model answers from 6k tokens on what a pass key might be, with DCA and without.
style='--style authors'

# The sizes: chosen on other novels than the ones reported on; on a CPU those that a GPU has chosen before.
if [ ! -d "$out/tuned" ]; then
    if [ -n "$short" ]; then
        dca package "$model" --weights link --out "$out/tuned" --chunk-size 7680 --local-size 512
    elif wanted tune; then
        dca package "$model" --weights link --out "$out/tuned" --tune "$tuning" --tune-times "${TIMES:-8}" 2>&1 |
            tee "$out/tuning.log"
    else
        echo "real_model.sh: there is no $out/tuned: run the part tune first" >&2
        exit 2
    fi
fi

# The most telling first: what is measured later may be left to another call.
if wanted perplexity; then
    dca perplexity "$out/tuned" --text "$unseen" --lengths $lengths --windows $windows --plain \
        ${compare[@]+"${compare[@]}"} --out "$out/perplexity-tuned.jsonl"
fi
if wanted paper; then
    "$python" benchmarks/side_by_side.py "$out/tuned" "$paper" "$out/paper" --tokens $answers \
        ${pages:+--pages "$pages"} "What is this document about?" "What is /srv for?" \
        "Which directory holds essential user command binaries?"
fi
# Keys with the sizes of the authors' rule, which finds more of them: what is best for perplexity is not for keys.
for part in needle passkey; do
    if [ -z "$short" ] && wanted $part; then
        asked=(--lengths $needles --depths $depths --trials $trials $style)
        [ $part = passkey ] || asked+=(--haystack "$unseen")
        dca $part "$model" "${asked[@]}" --plain "${scaled[@]}" --out "$out/$part.jsonl"
        dca $part "$out/tuned" "${asked[@]}" --out "$out/$part-tuned.jsonl"
    fi
done

# What the choice of sizes is worth: the authors' rule, and with temperatures.
if [ -z "$short" ] && wanted perplexity; then
    dca perplexity "$model" --text "$unseen" --lengths $lengths --windows $windows --out "$out/perplexity.jsonl"
    for temperature in 0.05 0.1; do
        [ -d "$out/warm-$temperature" ] || dca package "$model" --weights link --out "$out/warm-$temperature" \
            --temperature $temperature
        dca perplexity "$out/warm-$temperature" --text "$unseen" --lengths $lengths --windows $windows \
            --out "$out/perplexity-$temperature.jsonl"
    done
fi

if [ -z "$short" ] && wanted ruler; then
    # Needles are hidden in the novels. NLTK's rules for sentences come from the network: these know no abbreviations.
    rules=$out/nltk/tokenizers/punkt_tab/english
    mkdir -p "$out/essays" "$rules"
    touch "$rules"/{collocations.tab,sent_starters.txt,abbrev_types.txt,ortho_context.tab}
    [ -s "$out/essays/novels.txt" ] || { zcat -f "$unseen" | head -c 3000000 > "$out/essays/novels.txt" || true; }
    tasks=niah_single_1,niah_single_2,niah_single_3,niah_multikey_1,niah_multivalue,niah_multiquery,ruler_vt
    NLTK_DATA=$out/nltk dca evaluate "$out/tuned" --lengths "${RULER:-4k,8k,16k,32k}" --limit "${LIMIT:-25}" --plain \
        --compare yarn --tasks $tasks --essays "$out/essays" --out "$out/ruler.jsonl"
fi
if wanted report; then dca report "$out"; fi
