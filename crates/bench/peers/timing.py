"""How every engine is timed, and what is printed of it: one JSON object a line, with the keys that graver-bench prints."""

import gc
import json
import os
import time

import numpy as np

WARM, LONG, MANY, LONGEST, SAMPLE = 3, 1.5, 10, 12.0, 2e-4


def peak_rss_mb():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def reset_peak():
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # not every kernel has it


def busy():
    """Seconds that processors were busy: all, and with this process."""
    ticks = [int(word) for word in open("/proc/stat").readline().split()[1:9]]
    own = os.times()
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own.user + own.system


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(call, first_extra=0.0):
    """Times a call that returns when its result is there, by the rules of graver-bench's measure.rs."""
    reset_peak()
    first = timed(call) + first_extra
    begin, calls, least = time.perf_counter(), 0, float("inf")
    while calls < WARM or time.perf_counter() - begin < 0.5:
        least = min(least, timed(call))
        calls += 1
    each = max(1, int(SAMPLE / max(least, 1e-9)))
    samples, before, begin = [], busy(), time.perf_counter()

    def going(took):
        return (len(samples) < MANY or took < LONG) and (len(samples) < 5 or took < LONGEST)

    while going(time.perf_counter() - begin):
        samples.append(timed(lambda: [call() for _ in range(each)]) / each)
    after, wall = busy(), time.perf_counter() - begin
    return {
        "median_ms": round(float(np.median(samples)) * 1e3, 5),
        "min_ms": round(min(samples) * 1e3, 5),
        "first_call_s": round(first, 3),
        "peak_rss_mb": peak_rss_mb(),
        "other_cpu": round(max(0.0, (after[0] - before[0]) - (after[1] - before[1])) / wall, 2),
    }


def emit(case, engine, mode, row, **more):
    print(json.dumps({"case": case, "engine": engine, "mode": mode, **row, **more}), flush=True)


def load(folder, case):
    """A case's file: weights by name, and the data in order."""
    from safetensors.numpy import load_file

    tensors = load_file(f"{folder}/{case}.safetensors")
    # Copied: arguments lie where those of any caller do, not in a file's buffer.
    data = [tensors.pop(name).copy() for name in sorted(name for name in tensors if name.startswith("data."))]
    weights = {name: value for name, value in tensors.items() if not name.startswith("expect.")}
    return weights, data


def compared(folder, case, results):
    """The mean magnitude of an operation's results, and how far they are from those of the file, as numbers.rs tells it."""
    from safetensors import safe_open

    with safe_open(f"{folder}/{case}.safetensors", "np") as file:
        expected = [file.get_tensor(f"expect.{place}").astype(np.float64) for place in range(len(results))]
    results = [np.asarray(result, np.float64) for result in results]
    far = [np.abs(result - expected).max() for result, expected in zip(results, expected)]
    shares = [error / max(np.abs(expected).max(), 1e-300) for error, expected in zip(far, expected)]
    mean = sum(np.abs(result).sum() for result in results) / sum(result.size for result in results)
    return {"check": float(mean), "error_abs": float(max(far)), "error_rel": float(max(shares))}
