"""ONNX Runtime on one case: `python peer_ort.py CASE ort THREADS DATA`, over DATA/CASE.onnx."""

import sys
import time

import numpy as np
import onnxruntime as ort

from timing import attention_arrays, emit, load, measure, micro_arrays


def main():
    case, mode, threads, folder = sys.argv[1:]
    x, w, b, y = micro_arrays() if case.startswith("micro") else [np.ones(64, np.float32)] * 4
    operations = {"micro_gelu": [x, w, b], "micro_layernorm": [x, w, b], "micro_transpose_add": [x, y]}
    if case.startswith("attn"):
        data = attention_arrays(case)[:3]
    elif case.startswith(("micro", "tiny")):
        data = operations.get(case, [x])
    else:
        data = load(folder, case)[1]
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    start = time.perf_counter()
    session = ort.InferenceSession(f"{folder}/{case}.onnx", options, providers=["CPUExecutionProvider"])
    loading = time.perf_counter() - start
    binding = session.io_binding()
    for slot, array in zip(session.get_inputs(), data):
        binding.bind_cpu_input(slot.name, np.ascontiguousarray(array))
    for slot in session.get_outputs():
        binding.bind_output(slot.name)
    row = measure(lambda: session.run_with_iobinding(binding), loading)
    result = np.concatenate([output.astype(np.float64).ravel() for output in binding.copy_outputs_to_cpu()])
    emit(case, "ort", mode, row, check=float(np.abs(result).mean()))


if __name__ == "__main__":
    main()
