#!/usr/bin/env bash
# Builds, installs and imports the package against several versions of torch, each in a scratch environment, and runs the
# whole suite against one. By hand, not in CI: CUDA builds of torch are several GB each; they are removed after their turn.
#
#     scripts/check_torch_versions.sh
#
# TORCH_VERSIONS (2.11.0 2.13.0 2.14.1): which. SUITE_FOR (2.13.0): where the suite runs too. PYTHON (python3): with what.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2

read -r -a versions <<<"${TORCH_VERSIONS:-2.11.0 2.13.0 2.14.1}"
suite_for=${SUITE_FOR:-2.13.0}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

in_tree() { # COMMAND..., with the copy of the repository as the current folder
    (cd "$folder/tree" && TORCH_NP_BRIDGE_NATIVE=1 "$@")
}

check() { # VERSION; leaves in `stage` where it stopped
    folder="$scratch/$1"
    local python="$folder/venv/bin/python"
    stage=copy && mkdir -p "$folder/tree" || return
    git ls-files --cached --others --exclude-standard -z | tar --null -T - -cf - | tar -xf - -C "$folder/tree" || return
    stage=install && "${PYTHON:-python3}" -m venv "$folder/venv" || return
    TORCH_NP_BRIDGE_NATIVE=0 "$python" -m pip install -q "torch==$1" "$folder/tree[dev]" || return
    stage=wheel && in_tree "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$folder" . || return
    "$python" -m pip install -q --no-deps --force-reinstall "$folder"/*.whl || return
    stage=doctor && (cd "$folder" && TORCH_NP_BRIDGE_ENGINE=native "$python" -m torch_np_bridge doctor) || return
    [ "$1" = "$suite_for" ] || return 0
    stage=build && in_tree "$python" setup.py -q build_ext --inplace || return
    stage=suite && TNB_REQUIRE=native,fake in_tree "$python" -m pytest -q || return
}

table=()
failed=0
for version in "${versions[@]}"; do
    echo "== torch $version"
    did="wheel built, installed, doctor passed"
    if check "$version"; then
        [ "$version" = "$suite_for" ] && did="$did, suite passed"
    else
        did="FAILED at: $stage"
        failed=1
    fi
    table+=("$(printf '%-10s %s' "$version" "$did")")
    rm -rf "${scratch:?}/$version"
done
printf '\n== summary\n'
printf '%s\n' "${table[@]}"
exit $failed
