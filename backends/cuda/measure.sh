#!/usr/bin/env bash
# On a machine with a GPU: runs the suite on it, checks programs on fresh random numbers against sums in f64, times them beside ceilings that
# are measured in the same run, and writes docs/cuda-speed.md. Without a GPU it says what is missing. What the suite finds wrong is told on the
# page, and does not keep it from being written.
#
#   measure.sh [ARGUMENTS]      builds, and does all that; the arguments go to the last step
#   measure.sh --build FOLDER   builds, and puts what is needed there, this script with it: neither a GPU nor, where the folder goes, cargo
#                               has to be there
#
# SUITE names the tests of the suite that are run, all of them if it is not set, PROFILE the build's profile, and GRAVER_GPU_BINARIES a folder
# that was built before, which is the script's own where there is one. NVRTC is where GRAVER_NVRTC says, or in `nvrtc` of that folder, or where
# setup-nvrtc.sh puts it. `--shrink 64 --write /tmp/page.md` with SUITE=nets and PROFILE=dev sees that all of it goes through.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

# The two programs: the suite, and what checks and times.
build() {
    cd "$here/../.."
    local profile="${PROFILE:-release}" messages
    messages="$(cargo test --profile "$profile" --workspace --test device --no-run --message-format json-render-diagnostics)"
    suite="$(sed -n 's/.*"executable":"\([^"]*\/device-[^"]*\)".*/\1/p' <<<"$messages" | head -n 1)"
    # The features that tests have: nothing is built twice.
    cargo build --profile "$profile" --workspace --features graver-hub/download --bin graver-gpu
    measure="$PWD/${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")/graver-gpu"
    case "${CARGO_TARGET_DIR:-}" in /*) measure="${measure#"$PWD/"}" ;; esac
}

if [ "${1:-}" = --build ]; then
    mkdir -p "$2"
    folder="$(cd "$2" && pwd)"
    build
    cp "$suite" "$folder/device"
    cp "$measure" "$folder/graver-gpu"
    cp "$here/measure.sh" "$folder/measure.sh"
    exit
fi

binaries="${GRAVER_GPU_BINARIES:-}"
if [ -z "$binaries" ] && [ -x "$here/device" ] && [ -x "$here/graver-gpu" ]; then
    binaries="$here"
fi
if [ -n "$binaries" ]; then
    binaries="$(cd "$binaries" && pwd)"
    suite="$binaries/device"
    measure="$binaries/graver-gpu"
    if [ -z "${GRAVER_NVRTC:-}" ] && [ -d "$binaries/nvrtc" ]; then
        export GRAVER_NVRTC="$binaries/nvrtc"
    fi
else
    build
fi
page=cuda-speed.md
if [ -d "$here/../../docs" ]; then
    page="$here/../../docs/cuda-speed.md"
fi

said="$(mktemp)"
trap 'rm -f "$said"' EXIT
wrong=()
# A GPU that cannot be used is a failure here, not a reason to pass over the tests.
if ! GRAVER_GPU=1 "$suite" --nocapture --test-threads 1 ${SUITE:+"$SUITE"} 2>&1 | tee "$said"; then
    failed="$(sed -n 's/^    \([a-z0-9_]*\)$/`\1`/p' "$said" | sort -u | paste -sd ' ' -)"
    wrong=(--wrong "${failed:-it ended early}")
fi
"$measure" --date "$(date -u +%F)" --write "$page" "${wrong[@]}" "$@"
[ ${#wrong[@]} -eq 0 ]
