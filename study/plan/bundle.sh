#!/bin/sh
# ./run.sh [--minutes 9] [--jobs 8] [--only PATTERN …]: see `python -m study side-by-side --help`
set -e
cd "$(dirname "$0")"
here=$PWD
if [ -n "$(ls wheels 2>/dev/null)" ] && [ ! -d site ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --target site wheels/*.whl
fi
PYTHONPATH="$here/site:$here/project:$here/packages"; export PYTHONPATH
QAPRUNE_CACHE="$here/cache" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTORCH_NVML_BASED_CUDA_CHECK=1
export QAPRUNE_CACHE HF_HUB_OFFLINE OMP_NUM_THREADS PYTORCH_NVML_BASED_CUDA_CHECK
cd project
python3 -m study side-by-side profile.yml --source "$here/data" --results "$here/results" \
  --runs "$here/runs" "$@" || echo "some runs failed: see the logs under runs" >&2
python3 -m study bundle --pack "$here" "$here/out"
