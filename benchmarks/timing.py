"""How every benchmark measures: candidates in turn, medians, ratios."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import sklearn
import skorch
import torch


def measure(
    candidates: dict[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Return the seconds of `repeats` calls of each candidate.

    One warm-up each, then all in turn, so that a slow spell of the machine hits all.
    """
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_table(seconds: dict[str, list[float]], reference: str) -> None:
    """Print the median and the range of each candidate, and its ratio to `reference`.

    The ratio is the median of the ratios within each turn, which noise that lasts
    longer than a turn does not change.
    """
    print(f"{'':24}{'median':>12}{'min':>12}{'max':>12}{'ratio':>9}")
    for name, times in seconds.items():
        ratio = statistics.median(
            t / r for t, r in zip(times, seconds[reference], strict=True)
        )
        ms = [1e3 * t for t in (statistics.median(times), min(times), max(times))]
        columns = "".join(f"{t:9.2f} ms" for t in ms)
        print(f"{name:24}{columns}{ratio:9.2f}")


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
