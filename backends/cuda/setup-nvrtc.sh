#!/usr/bin/env bash
# Brings NVRTC, which compiles CUDA C++ without a GPU or a driver, and a disassembler, from their PyPI wheels into a folder:
# the first argument, or else where graver looks for them (see `backends/cuda/src/nvrtc.rs`). Needs python3 with pip.
set -euo pipefail

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/graver/nvrtc}
wheels=(nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-nvdisasm==13.5.37)

if [ -e "$folder/complete" ] && [ "$(cat "$folder/complete")" = "${wheels[*]}" ]; then
    echo "NVRTC is in $folder"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "${wheels[@]}"
for wheel in "$work"/*.whl; do
    python3 -m zipfile -e "$wheel" "$work/unpacked"
done
mkdir -p "$folder"
find "$work/unpacked" \( -name 'libnvrtc*.so.*' -not -name '*.alt.*' -o -name nvdisasm \) -exec cp {} "$folder" \;
chmod +x "$folder/nvdisasm"
echo "${wheels[*]}" > "$folder/complete"
echo "NVRTC is in $folder"
