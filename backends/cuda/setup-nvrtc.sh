#!/usr/bin/env bash
# Brings NVRTC, which compiles CUDA C++ without a GPU or a driver, and a disassembler, from their PyPI wheels into a folder. The first
# argument is the major version of CUDA that it is of, 13 where there is none: a driver of CUDA 12 loads no machine code of 13. The second
# is the folder, or else it is where graver looks (see `backends/cuda/src/nvrtc.rs`), where both versions may be. Needs python3 with pip.
set -euo pipefail

major=${1:-13}
folder=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/graver/nvrtc}
case "$major" in
    13) nvrtc=nvidia-cuda-nvrtc==13.0.88 ;;
    12) nvrtc=nvidia-cuda-nvrtc-cu12==12.9.86 ;;
    *)
        echo "$0: no NVRTC of CUDA $major is known here; the first argument is 13 or 12, the second a folder" >&2
        exit 2
        ;;
esac
wheels=("$nvrtc" nvidia-cuda-nvdisasm==13.5.37)
mark="$folder/complete-$major"

if [ -e "$mark" ] && [ "$(cat "$mark")" = "${wheels[*]}" ]; then
    echo "NVRTC of CUDA $major is in $folder"
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
echo "${wheels[*]}" > "$mark"
echo "NVRTC of CUDA $major is in $folder"
