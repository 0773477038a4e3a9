#!/usr/bin/env bash
# The embedded model `small`, from photographs to the shipped file: four stages, one after the other.
#
#   recipes/small.sh DATA…
#
# DATA      folders of photographs and WebDataset-format tars, sides of 256 px or more
# OUT       where runs go (default runs/small)
# MINUTES   budgets of the four stages (default "28 32 6 18": the shipped weights, on two CPU cores)
#
# Killed half-way, the same command goes on where it was.
set -euo pipefail
data=("$@")
features=$(dirname "$0")/features/squeezenet1_1.safetensors
out=${OUT:-runs/small}
read -r tokenizer generator critic control <<<"${MINUTES:-28 32 6 18}"

stage() { # name minutes [option…]
  local name=$1 minutes=$2
  shift 2
  realsrt train "$name" --preset small --data "${data[@]}" --out "$out/$name" --max-minutes "$minutes" \
    --perceptual-file "$features" --pool 256 --resume "$@"
}

stage tokenizer "$tokenizer" --crop 96
stage generator "$generator" --crop 128 --init "$out/tokenizer/model.safetensors"
stage critic "$critic" --crop 96 --init "$out/generator/model.safetensors"
stage control "$control" --crop 96 --lr 4e-4 --sampler-steps 2 --gan-start 200 --init "$out/critic/model.safetensors"

python - "$out/control/model.safetensors" "$out/small.safetensors" <<'PYTHON'
"""The shipped form: half precision."""
import sys

import torch

import realsrt

realsrt.save_model(realsrt.load_model(sys.argv[1]), sys.argv[2], dtype=torch.float16)
PYTHON
echo "weights: $out/small.safetensors"
