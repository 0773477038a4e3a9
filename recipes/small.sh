#!/usr/bin/env bash
# The embedded model `small`, from public weights to the shipped file: six stages, one after the other.
#
#   MILD=realesr-general-wdn-x4v3.pth STRONG=realesr-general-x4v3.pth DEEP=RealESRGAN_x4plus.pth recipes/small.sh DATA…
#
# DATA          folders of photographs and WebDataset-format tars, sides of 256 px or more; none where PAIRS is enough
# MILD, STRONG  the two published networks that the trunk starts from (Real-ESRGAN's releases), .pth or .safetensors
# DEEP          the published network that the trunk's deep one starts from
# DEEP_SHARE    how much of what the deep stage learns is kept (default 0.7; recipes/mix.py)
# INIT          weights to go on from in their place, such as the shipped ones
# PAIRS         recorded pairs with a teacher's images (`realsrt teach`), the target where the input lost much
# STEPS         budgets of deep, strength, tokenizer, generator, critic, control (2500 1200 1000 1200 250 700); 0: no such
#               stage
# MINUTES       the same six in minutes; with STEPS, whichever ends first
# OUT           where runs go (default runs/small)
# OPTIONS       for every stage, in place of what is given here: "--precision bf16 --compile --batch 64" on a GPU
#
# Killed half-way, the same command goes on where it was.
set -euo pipefail
data=("$@")
features=$(dirname "$0")/features/squeezenet1_1.safetensors
out=${OUT:-runs/small}
usual="2500 1200 1000 1200 250 700"
[ -z "${MINUTES:-}" ] || usual=
read -ra steps <<<"${STEPS:-$usual}"
read -ra minutes <<<"${MINUTES:-}"
read -ra options <<<"${OPTIONS:-}"
pairs=()
[ -z "${PAIRS:-}" ] || pairs=(--pairs "$PAIRS" --teacher-above 0.25)
[ ${#data[@]} = 0 ] || pairs+=(--data "${data[@]}")
[ ${#pairs[@]} != 0 ] || { echo "give photographs, or recorded pairs as PAIRS=taught.tar" >&2; exit 2; }
if [ -n "${INIT:-}" ]; then
  start=(--init "$INIT")
elif [ -n "${MILD:-}" ] && [ -n "${STRONG:-}" ] && [ -n "${DEEP:-}" ]; then
  start=(--preset small --trunk "$MILD" "$STRONG" "$DEEP")
else
  echo "give MILD, STRONG and DEEP (published networks) or INIT (weights to go on from)" >&2
  exit 2
fi

unless_given() { # option… → kept: without those that OPTIONS has
  local word given=
  kept=()
  for word in "$@"; do
    if [[ $word == --* ]]; then
      given=
      [[ " ${OPTIONS:-} " != *" $word "* ]] || given=yes
    fi
    [ -n "$given" ] || kept+=("$word")
  done
}

number=0
stage() { # name [option…]
  local name=$1 budget=() count=${steps[number]:-} time=${minutes[number]:-}
  shift
  number=$((number + 1))
  if [ "$count" = 0 ] || [ "$time" = 0 ]; then
    echo "$name: passed over"
    return
  fi
  [ -z "$count" ] || budget+=(--max-steps "$count")
  [ -z "$time" ] || budget+=(--max-minutes "$time")
  [[ " $* " == *" --pool "* ]] || set -- --pool 240 "$@"
  unless_given --perceptual-file "$features" --perceptual-taps conv1 fire3 fire5 fire6 fire7 fire8 fire9 "$@"
  realsrt train "$name" "${start[@]}" "${pairs[@]}" --out "$out/$name" "${budget[@]}" --resume "${kept[@]}" "${options[@]}"
  start=(--init "$out/$name/model.safetensors")
}

all=("${pairs[@]}")
[ ${#data[@]} = 0 ] || pairs=(--data "${data[@]}") # a teacher's image would be its own
# Crops as large as a tile: the deep network looks far, and in small ones it learns to live at an edge.
stage deep --crop 256 --batch 1 --lr 2e-5 --pixel 0.2 --clean-pixel 7 --precision bf16 --degradation everyday \
  --gan 0.1 --discriminator projected --gan-warmup 400
if [ "${start[1]}" = "$out/deep/model.safetensors" ]; then # not where the stage is passed over, and another run left one
  python "$(dirname "$0")/mix.py" "${INIT:-${DEEP:-}}" "$out/deep/model.safetensors" "${DEEP_SHARE:-0.7}" "$out/deep.safetensors"
  start=(--init "$out/deep.safetensors")
fi
pairs=("${all[@]}")
stage strength --pool 640
stage tokenizer --crop 96 --batch 12 --perceptual 0.05
stage generator --crop 128 --batch 12
stage critic --crop 128 --batch 8 --critic-labels far --critic-temperatures 0 1 --mask-sampling full
# What is left to learn is in clean inputs: of these as many photographs as there are, of the others recorded pairs.
clean=()
[ -z "${PAIRS:-}" ] || [ ${#data[@]} = 0 ] || clean=(--degradation bicubic)
stage control --crop 256 --batch 2 --lr 2e-4 --tune-decoder --perceptual 0.06 --perceptual-views --pixel 0.5 --clean-pixel 4 \
  --sampler-steps 2 --gan 0 "${clean[@]}"

[ "${start[0]}" = --init ] || { echo "no stage had a budget" >&2; exit 2; }
python - "${start[1]}" "$out/small.safetensors" <<'PYTHON'
"""The shipped form: half precision."""
import sys

import torch

import realsrt

realsrt.save_model(realsrt.load_model(sys.argv[1]), sys.argv[2], dtype=torch.float16)
PYTHON
echo "weights: $out/small.safetensors"
