#!/usr/bin/env bash
# Training on a GPU that is there for a quarter of an hour, on a machine without a network.
#
#   recipes/gpu.sh pack FOLDER DATA… [INIT]      here: everything that travels beside the repository
#   recipes/gpu.sh run FOLDER OUT [--max-steps 3]   there, in a copy of the repository
#
# pack  DATA: tars and folders of photographs, and of recorded pairs; INIT: weights to start from (else the shipped
#       ones); the large network of their trunk is the teacher
#   PHOTOS_MB  take no more of the photographs than that, evenly; PAIRS_MB the same of recorded pairs (default: all)
#   LIMIT_MB   the most that may travel, the repository's files counted in (default 60)
#   TARGET     the Python there (default 3.12); WHEELS=0: bring no packages
# run   writes half-precision weights to OUT after a minute and every minute, a stage's in parts of 15 MiB
#         (cat OUT/1-control.safetensors.? > control.safetensors)
#   STAGES     in this order of deep, strength, control, generator, critic (default "deep strength control critic")
#   MINUTES    of each (default "4.5 0.3 1.8 0.6")
#   TOTAL      minutes of everything, the start counted in: later stages get what is left (default 9)
#   INIT       other weights than the packed ones, such as those that the run before left
#   RUNS       where runs and packages go, outside OUT (default: a folder for temporary files)
#   BATCH      in place of measuring which is best
# --max-steps N rehearses: N steps a stage, with or without a GPU.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

case ${1:-} in
  pack)
    [ $# -ge 3 ] || usage
    exec env PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" "$python" "$here/gpu/pack.py" "${@:2}"
    ;;
  run)
    [ $# -ge 3 ] || usage
    folder=$2
    runs=${RUNS:-${TMPDIR:-/tmp}/realsrt-gpu}
    [ -f "$folder/contents.json" ] || { echo "$folder was not packed, or not to the end: recipes/gpu.sh pack" >&2; exit 2; }
    mkdir -p "$runs"
    began=$SECONDS
    if compgen -G "$folder/wheels/*.whl" >/dev/null; then
      timeout 60 "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --upgrade --target "$runs/site" "$folder"/wheels/*.whl \
        || { echo "the packed wheels do not suit $("$python" -V): pack again with TARGET set to it" >&2; exit 2; }
    fi
    export PYTHONPATH="$here/../src:$runs/site:$folder/modules${PYTHONPATH:+:$PYTHONPATH}"
    export RUNS="$runs" BEGAN=$((SECONDS - began)) PYTHONUNBUFFERED=1
    exec "$python" "$here/gpu/run.py" "${@:2}"
    ;;
  *) usage ;;
esac
