#!/usr/bin/env bash
# The comparisons of docs/experiments.md: one change at a time, at equal data and steps.
#
#   experiments/run.sh NAME DATA…
#
# NAME    critic · condition · masks · control, as in docs/experiments.md
# DATA    folders of photographs and tars (sides of 256 px or more)
# START   weights to start from where an experiment does not start from nothing (default small: the embedded ones)
# OUT     where runs go (default runs/experiments)
set -euo pipefail
name=$1
shift
data=("$@")
out=${OUT:-runs/experiments}/$name
here=$(dirname "$0")
variants=$here/variants.py
features=$here/../recipes/features/squeezenet1_1.safetensors
start=${START:-$(python -c 'import realsrt, pathlib; print(pathlib.Path(realsrt.__file__).parent / "weights/small.safetensors")')}
taps=(--perceptual-taps conv1 fire3 fire5 fire6 fire7 fire8 fire9)

run() { # folder stage [option…]
  local folder=$1 stage=$2
  shift 2
  realsrt train "$stage" --data "${data[@]}" --out "$out/$folder" --crop 96 --perceptual-file "$features" "$@"
}

fresh() { # weights folder part… : the same weights with parts made anew
  python - "$@" <<'PYTHON'
import sys

import realsrt
from realsrt import presets

source, target, *parts = sys.argv[1:]
model, new = realsrt.load_model(source), presets.build("small", 7)
for part in parts:
    getattr(model, part).load_state_dict(getattr(new, part).state_dict())
model.sync_codebook()
stages = [s for s in model.info.provenance.get("stages", []) if s["stage"] not in parts]
realsrt.save_model(model, target, provenance={**model.info.provenance, "stages": stages})
PYTHON
}

mkdir -p "$out"
case $name in
critic) # labels and heads of the critic
  fresh "$start" "$out/start.safetensors" critic
  options=(--init "$out/start.safetensors" --max-steps 300 --degradation realesrgan)
  wrong=(--critic-labels wrong --critic-balance --mask-sampling quarter_full --critic-temperatures 0 1)
  run paper critic --preset "$variants:small_linear_critic" --critic-temperatures 0 0 "${options[@]}"
  run wrong_linear critic --preset "$variants:small_linear_critic" "${wrong[@]}" "${options[@]}"
  run wrong_code critic --preset small "${wrong[@]}" "${options[@]}"
  ;;
condition | masks) # what the generator sees of the input; how many of its tokens are masked
  fresh "$start" "$out/start.safetensors" generator critic
  options=(--init "$out/start.safetensors" --max-steps 400)
  run features generator --preset small "${options[@]}"
  [ "$name" = masks ] || run tokens generator --preset "$variants:small_token_condition" "${options[@]}"
  [ "$name" = condition ] || run paper generator --preset small --mask-sampling paper "${options[@]}"
  ;;
control) # decoder frozen or not, control on one scale or two
  options=(--init "$start" --max-steps 400 --perceptual 0.1 "${taps[@]}" --lr 4e-4 --gan-start 60 --clean-share 0.2)
  options+=(--sampler-steps 1 2)
  run frozen control --preset "$variants:small_coarse_control" --tune-decoder=false "${options[@]}"
  run coarse control --preset "$variants:small_coarse_control" "${options[@]}"
  run fine control --preset small "${options[@]}"
  ;;
*)
  echo "no experiment is named $name: critic, condition, masks or control" >&2
  exit 2
  ;;
esac
