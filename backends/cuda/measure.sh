#!/usr/bin/env bash
# On a machine with a GPU: builds, runs the suite on it, checks programs on fresh random numbers against sums in f64, times them beside
# ceilings that are measured in the same run, and writes docs/cuda-speed.md. Without a GPU it says what is missing. Arguments go to the
# last step; SUITE names the tests of the suite that are run, all of them if it is not set, and PROFILE the build's profile: `--shrink 64
# --write /tmp/page.md` with SUITE=nets and PROFILE=dev sees that all of it goes through.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile="${PROFILE:-release}"
# A GPU that cannot be used is a failure here, not a reason to pass over the tests.
GRAVER_GPU=1 cargo test --profile "$profile" --workspace --test device -- --nocapture --test-threads 1 ${SUITE:+"$SUITE"}
# The features that tests have: nothing is built twice.
cargo build --profile "$profile" --workspace --features graver-hub/download --bin graver-gpu
built="${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")"
"$built/graver-gpu" --date "$(date -u +%F)" --write docs/cuda-speed.md "$@"
