#!/usr/bin/env bash
# Measures and tests all that needs a GPU, in at most eight minutes: bash benchmarks/gpu_check.sh [--wheels FOLDER] OPTION...
# Needs Python, torch with CUDA, Triton >= 2.6; FOLDER has wheels of what else is missing, and nothing is downloaded.
# Options are those of python -m benchmarks.gpu: --out FOLDER, --limit SECONDS, --only STAGE..., --tiny.
set -euo pipefail
python=${PYTHON:-python3}
options=()
wheels=
while (($#)); do
    case $1 in
        --wheels) wheels=${2:?--wheels: expected a folder, got nothing} && shift 2 ;;
        *) options+=("$1") && shift ;;
    esac
done
if [[ -n $wheels ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH=$here/src:$here${PYTHONPATH:+:$PYTHONPATH} "$python" -m benchmarks.gpu --spent "$SECONDS" "${options[@]}"
