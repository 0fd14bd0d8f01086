#!/usr/bin/env bash
# Measure, calibrate, search, validate and report on the 2 to 8 GPUs of a node, in some 20 minutes.
#   experiments/one_node.sh OUT [MODEL] [PROMPT]     MODEL: bundled name or Hugging Face folder
# What it finds lies in OUT, a folder to send back: tables, profile, plans, results, a page, and what
# every command printed. A command that fails is named in OUT/failed.txt, and the others run.
set -uo pipefail
out=${1:?usage: experiments/one_node.sh OUT [MODEL] [PROMPT]}
model=${2:-llama-3.1-8b}
prompt=${3:-4096}
isotune=${ISOTUNE:-isotune}
device=${DEVICE:-cuda}
if [ "$device" = cuda ]; then gpus=$(nvidia-smi --list-gpus | wc -l); else gpus=${RANKS:-2}; fi
base=${BASE:-auto}
layers=${LAYERS:+--layers $LAYERS}
tokens=${TOKENS:-4k}
mkdir -p "$out"
cd "$out" || exit 2
: >failed.txt

run() { # run NAME COMMAND...: what it prints lies in NAME.txt, or in NAME where that is a .json
  local name=$1
  shift
  local file=$name
  [ "${name%.json}" = "$name" ] && file=$name.txt
  echo "$(date +%T) $name"
  if ! "$@" >"$file" 2>"${name%.json}.err"; then echo "$name: $(tail -1 "${name%.json}.err")" >>failed.txt; fi
}

{ nvidia-smi; nvidia-smi topo -m; python -m pip freeze; env | grep -E "^(NCCL|TORCH|CUDA)_"; } >machine.txt 2>&1
run measure "$isotune" measure -o here.csv --name here --model "$model" --nproc "$gpus" \
  --device "$device" --tokens "$tokens" --seconds "${SECONDS_EACH:-0.1}"
contention=()
[ -f here-contention.csv ] && contention=(--contention here-contention.csv)
run calibrate "$isotune" calibrate here.csv "${contention[@]}" --base "$base" -o here.yaml
hw=here.yaml
[ -f here.yaml ] || hw=$base
run check.json "$isotune" check here.csv --hw "$hw" --json
run search.json "$isotune" search --hw "$hw" --model "$model" --tp "$gpus" --prompt "$prompt" \
  --trials "${TRIALS:-100}" -o plan.yaml --json
for launch in eager graph; do
  # shellcheck disable=SC2086
  run "validate-$launch.json" "$isotune" validate plan.yaml --launch "$launch" --device "$device" \
    $layers --trace "trace-$launch.json" --json
done
results=()
for file in search.json validate-eager.json validate-graph.json; do
  [ -s "$file" ] && results+=("$file")
done
run report "$isotune" report "${results[@]}" -o report.html
if [ -s failed.txt ]; then echo "failed:" && cat failed.txt && exit 1; fi
echo "all is in $out"
