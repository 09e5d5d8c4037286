"""How every benchmark measures: candidates in turn, medians, ratios."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import sklearn
import skorch
import torch

GEMM_SIZE = {"cpu": 2048, "cuda": 8192}


def measure(
    candidates: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of `repeats` calls of each candidate.

    One warm-up each, then all in turn, so that a slow spell of the machine hits all.
    The garbage of one is collected before the next begins.
    """
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            gc.collect()
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median of the ratios within each turn.

    Noise that lasts longer than a turn does not change it.
    """
    pairs = zip(times, reference, strict=True)
    return statistics.median(time / of_reference for time, of_reference in pairs)


def milliseconds(times: Sequence[float]) -> str:
    """Return the median and the range, for a table."""
    ms = [1e3 * t for t in (statistics.median(times), min(times), max(times))]
    return "{:.4g} ms ({:.4g} to {:.4g})".format(*ms)


def gemm_rate(device: torch.device) -> float:
    """Return the rate of a large matrix product in float32, in flops a second."""
    n = GEMM_SIZE.get(device.type, 2048)
    a, b, out = (torch.rand(n, n, device=device) for _ in range(3))
    times = measure({"": lambda: torch.mm(a, b, out=out)}, 9, device)[""]
    return 2 * n**3 / statistics.median(times)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, as a simple table of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    print(rule)
    for i, row in enumerate([header, *rows]):
        line = "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print(line.rstrip())
        if i == 0:
            print(rule)
    print(rule)


def print_machine(device: torch.device) -> None:
    """Print what the figures were measured on."""
    if device.type == "cuda":
        what = torch.cuda.get_device_name(device)
    else:
        what = f"{cpu_name()}, {os.cpu_count()} cores"
    print(f"{what}; {torch.get_num_threads()} threads of torch")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, skorch {skorch.__version__}, "
        f"numpy {np.__version__}"
    )


def cpu_name() -> str:
    """Return the model of the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1] for line in lines if "model name" in line]
        return names[0].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
