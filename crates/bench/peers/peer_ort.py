"""ONNX Runtime on one case: `python peer_ort.py CASE ort THREADS DATA`, over DATA/CASE.onnx."""

import sys
import time

import numpy as np
import onnxruntime as ort

from operations import OPERATIONS
from timing import compared, emit, load, measure


def main():
    case, mode, threads, folder = sys.argv[1:]
    _, data = load(folder, case)
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
    results = binding.copy_outputs_to_cpu()
    if case in OPERATIONS:
        return emit(case, "ort", mode, row, **compared(folder, case, results))
    result = np.concatenate([output.astype(np.float64).ravel() for output in results])
    emit(case, "ort", mode, row, check=float(np.abs(result).mean()))


if __name__ == "__main__":
    main()
