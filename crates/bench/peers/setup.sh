#!/usr/bin/env bash
# What `graver-bench --vs DIR` compares with: two Python environments under DIR, torch (which also exports ONNX) and jax (with ONNX Runtime).
set -euo pipefail
dir=${1:?usage: setup.sh DIR}
mkdir -p "$dir"
python3 -m venv "$dir/torch"
"$dir/torch/bin/pip" install --quiet torch numpy safetensors onnx onnxscript
python3 -m venv "$dir/jax"
"$dir/jax/bin/pip" install --quiet jax optax onnxruntime numpy safetensors
