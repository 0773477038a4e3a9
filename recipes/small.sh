#!/usr/bin/env bash
# The embedded model `small`, from photographs to the shipped file: four stages, and the critic once more.
#
#   recipes/small.sh DATA…
#
# DATA      folders of photographs and WebDataset-format tars, sides of 256 px or more
# OUT       where runs go (default runs/small)
# MINUTES   budgets of the five runs (default: what the shipped weights took, see MODEL_CARD.md)
# INIT      weights to go on from, such as the shipped ones; without it everything starts from nothing
# OPTIONS   for every stage, such as "--precision bf16 --compile --batch 64" on a GPU
#
# Killed half-way, the same command goes on where it was.
set -euo pipefail
data=("$@")
features=$(dirname "$0")/features/squeezenet1_1.safetensors
out=${OUT:-runs/small}
read -r tokenizer generator critic control again <<<"${MINUTES:-41 56 5 51 4}"
read -ra options <<<"${OPTIONS:-}"

stage() { # name minutes [option…]
  local name=$1 minutes=$2
  shift 2
  realsrt train "$name" --data "${data[@]}" --out "${OUT_STAGE:-$out/$name}" --max-minutes "$minutes" --pool 256 --resume \
    --perceptual-file "$features" --perceptual-taps conv1 fire3 fire5 fire6 fire7 fire8 fire9 "$@" "${options[@]}"
}

stage tokenizer "$tokenizer" --preset small --crop 96 --perceptual 0.05 ${INIT:+--init "$INIT"}
stage generator "$generator" --crop 128 --init "$out/tokenizer/model.safetensors"
judge=(--crop 128 --critic-labels wrong --critic-balance --critic-temperatures 0 1 --mask-sampling full)
stage critic "$critic" --init "$out/generator/model.safetensors" "${judge[@]}"
stage control "$control" --crop 96 --init "$out/critic/model.safetensors" --lr 3e-4 --perceptual 0.1 --clean-share 0.1 \
  --gan-start 100 --sampler-steps 1 1 2 2 4 8 --tune-generator --teacher-share 0.15 --token-loss 0.05
# the generator has moved: its critic follows
OUT_STAGE=$out/critic-again stage critic "$again" --init "$out/control/model.safetensors" "${judge[@]}"

python - "$out/critic-again/model.safetensors" "$out/small.safetensors" <<'PYTHON'
"""The shipped form: half precision."""
import sys

import torch

import realsrt

realsrt.save_model(realsrt.load_model(sys.argv[1]), sys.argv[2], dtype=torch.float16)
PYTHON
echo "weights: $out/small.safetensors"
