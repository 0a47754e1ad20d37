#!/usr/bin/env bash
# Runs everything that needs a GPU, once, on a machine that has one: no network, no virtual environment, the python3 it
# finds. A step that fails, or whose tool is missing, does not stop the rest.
#
#     scripts/gpu_check.sh [--dry-run] FOLDER
#
# FOLDER gets one log a step, bench.json, bench.svg, and results.json: status, exit status, seconds and command of each step, and what
# `doctor` and `bench` reported. --dry-run puts the fake accelerator in the place of the GPU. BUDGET is how long all of it may take, in
# seconds (480): a step that finds none of it left is not begun, and random transfers take what the others leave. STEP_LIMIT is the longest
# that one step may take (240); TESTS is what pytest runs (tests).
set -u -o pipefail

dry_run=
if [ "${1:-}" = --dry-run ]; then
    dry_run=1
    shift
fi
if [ $# -ne 1 ]; then
    echo "usage: scripts/gpu_check.sh [--dry-run] FOLDER" >&2
    exit 2
fi
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2

results="$out/results.json"
rm -f "$results" "$out/bench.json" "$out/bench.svg"
budget=${BUDGET:-480}
step_limit=${STEP_LIMIT:-240}
least_soak=30
soak_reserve=20 # seconds of it for its start, and for the round that is under way at its end
read -r -a tests <<<"${TESTS:-tests}"
export PYTHONUNBUFFERED=1

record() { # NAME STATUS EXIT SECONDS OUTPUT COMMAND...
    python3 - "$results" "$@" <<'PYTHON'
import json
import pathlib
import sys

file, name, status, code, seconds, output, *command = sys.argv[1:]
path = pathlib.Path(file)
results = json.loads(path.read_text()) if path.exists() else {}
entry = {"status": status, "exit": int(code) if code else None, "seconds": float(seconds), "command": command}
try:
    entry["report"] = json.loads(pathlib.Path(output).read_text())
except (OSError, ValueError):
    pass  # its output is no JSON: the log has it
path.write_text(json.dumps({**results, name: entry}, indent=2) + "\n")
PYTHON
}

left() { # seconds of the budget
    echo $((budget > SECONDS ? budget - SECONDS : 0))
}

step() { # NAME COMMAND...
    local name=$1 start code status output limit
    shift
    limit=$(($(left) < step_limit ? $(left) : step_limit))
    if [ "$limit" -eq 0 ]; then
        missing "$name" "time, all $budget s of BUDGET are used"
        return
    fi
    output=$(mktemp)
    echo "== $name: $*"
    start=$(date +%s.%N)
    timeout --kill-after=10 "$limit" "$@" >"$output" 2>"$out/$name.log" </dev/null
    code=$?
    case $code in
        0) status=passed ;;
        124 | 137) status="stopped after $limit s" ;;
        127) status="missing: $1" ;;
        *) status=failed ;;
    esac
    record "$name" "$status" "$code" "$(echo "$start $(date +%s.%N)" | awk '{ printf "%.2f", $2 - $1 }')" "$output" "$@"
    cat "$output" >>"$out/$name.log"
    rm -f "$output"
    tail -n 3 "$out/$name.log"
}

missing() { # NAME WHAT
    echo "== $1: missing: $2"
    record "$1" "missing: $2" "" 0 ""
}

load=()
device=()
bench=()
required=cuda,native
if [ -n "$dry_run" ]; then
    export PYTHONPATH="$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"
    load=(--load fake_device)
    device=(--device fake)
    bench=(--quick)
    required=fake,native
elif ! command -v nvcc >/dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then
    export PATH="/usr/local/cuda/bin:$PATH"
fi

if command -v nvidia-smi >/dev/null; then
    step gpu nvidia-smi
else
    missing gpu nvidia-smi
fi

# Each is needed: the first four by the package, ninja by a quick build, the rest by the tests. PYTHONPATH may bring them.
absent=$(python3 -c '
import importlib.util as i
names = ["torch", "numpy", "ml_dtypes", "optree", "setuptools", "ninja", "pytest", "hypothesis", "mypy", "sklearn", "rich"]
print(*[name for name in names if i.find_spec(name) is None])')
if [ -n "$absent" ]; then
    missing modules "$absent (PYTHONPATH may bring them)"
else
    record modules passed 0 0 ""
fi

export TORCH_NP_BRIDGE_NATIVE=1
command -v nvcc >/dev/null && [ -z "$dry_run" ] && export TORCH_NP_BRIDGE_CUDA=1
step build python3 setup.py build_ext --inplace
step doctor python3 -m torch_np_bridge doctor --json "${load[@]}"
step tests env TNB_REQUIRE=$required python3 -m pytest -q "${tests[@]}"
# Trees by the packing kernel, a self-test by the other one: short, since a sanitizer makes everything many times slower.
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in memcheck racecheck synccheck initcheck; do
    if [ -n "$sanitizer" ]; then
        step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 python3 -m torch_np_bridge doctor "${load[@]}"
    else
        missing "$tool" compute-sanitizer
    fi
done
if [ -z "$dry_run" ]; then
    step tune python3 -m torch_np_bridge bench --tune
else
    missing tune "a GPU"
fi
step bench python3 -m torch_np_bridge bench --json "$out/bench.json" --plot "$out/bench.svg" "${load[@]}" "${device[@]}" "${bench[@]}"

if [ "$(left)" -ge "$least_soak" ]; then
    soak_seconds=$(($(left) < step_limit ? $(left) : step_limit))
    soak=(--device "${device[1]:-cuda}" --minutes "$(awk "BEGIN { print ($soak_seconds - $soak_reserve) / 60 }")")
    [ -n "$dry_run" ] && soak+=(--transfers 1000)
    step soak env OMP_NUM_THREADS=1 PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" python3 -X faulthandler -m stress "${soak[@]}"
else
    missing soak "time, $(left) s of $budget are left"
fi

python3 - "$results" <<'PYTHON'
import json
import pathlib
import sys

path = pathlib.Path(sys.argv[1])
results = json.loads(path.read_text())
try:
    results["bench"]["report"] = json.loads((path.parent / "bench.json").read_text())
    path.write_text(json.dumps(results, indent=2) + "\n")
except (OSError, ValueError):
    pass  # it failed: the log has why
print("\n== summary")
for name, entry in results.items():
    print(f"{name:10} {entry['seconds']:8.1f} s  {entry['status']}")
bad = [name for name, entry in results.items() if entry["status"] != "passed" and "missing" not in entry["status"]]
sys.exit(f"failed: {', '.join(bad)}" if bad else 0)
PYTHON
