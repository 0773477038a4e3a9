#!/usr/bin/env bash
# The embedded model `small`, from photographs to the shipped file: four stages, one after the other.
#
#   recipes/small.sh DATA…
#
# DATA      folders of photographs and WebDataset-format tars, sides of 256 px or more
# OUT       where runs go (default runs/small)
# MINUTES   budgets of the four stages (default: what the shipped weights took, see MODEL_CARD.md)
# INIT      weights to go on from, such as the shipped ones; without it everything starts from nothing
# OPTIONS   for every stage, such as "--precision bf16 --compile --batch 64" on a GPU
#
# Killed half-way, the same command goes on where it was.
set -euo pipefail
data=("$@")
features=$(dirname "$0")/features/squeezenet1_1.safetensors
out=${OUT:-runs/small}
read -r tokenizer generator critic control <<<"${MINUTES:-41 56 5 111}"
read -ra options <<<"${OPTIONS:-}"

stage() { # name minutes [option…]
  local name=$1 minutes=$2
  shift 2
  realsrt train "$name" --data "${data[@]}" --out "$out/$name" --max-minutes "$minutes" --pool 256 --resume \
    --perceptual-file "$features" --perceptual-taps conv1 fire3 fire5 fire6 fire7 fire8 fire9 "$@" "${options[@]}"
}

stage tokenizer "$tokenizer" --preset small --crop 96 --perceptual 0.05 ${INIT:+--init "$INIT"}
stage generator "$generator" --crop 128 --init "$out/tokenizer/model.safetensors"
stage critic "$critic" --crop 128 --init "$out/generator/model.safetensors" --critic-labels wrong --critic-balance \
  --critic-temperatures 0 1 --mask-sampling full
stage control "$control" --crop 96 --init "$out/critic/model.safetensors" --lr 3e-4 --perceptual 0.06 --clean-share 0 \
  --clean-pixel 6 --gan 0.08 --gan-start 100 --sampler-steps 1 1 2 2 4

python - "$out/control/model.safetensors" "$out/small.safetensors" <<'PYTHON'
"""The shipped form: half precision."""
import sys

import torch

import realsrt

realsrt.save_model(realsrt.load_model(sys.argv[1]), sys.argv[2], dtype=torch.float16)
PYTHON
echo "weights: $out/small.safetensors"
