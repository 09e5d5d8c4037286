"""Draw how the time of a fit grows, against a plain PyTorch loop and MLPClassifier.

    python benchmarks/scaling.py [--device cuda] [--output docs/images/scaling.png]

One size varies at a time, over three decades: rows, features, hidden units, and the
number of networks that are trained (side by side by torchblob, one by one by the
others, whose time is that of one network times their number).
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import torch
from candidates import Work, fit_mlp, fit_plain, fit_torchblob
from fit import train_side_by_side
from sklearn.exceptions import ConvergenceWarning
from timing import measure, print_machine, print_table

BASE = Work(2000, 10, 4, 16, epochs=20)
SIZES = {
    "rows": [100, 300, 1000, 3000, 10_000, 30_000, 100_000],
    "features": [2, 6, 20, 60, 200, 600, 2000],
    "hidden": [2, 6, 20, 60, 200, 600, 2000],
    "networks": [1, 3, 10, 30, 100, 300, 1000],
}
LABELS = {
    "rows": "rows",
    "features": "features",
    "hidden": "units of each hidden layer",
    "networks": "networks",
}
# Colours of Okabe and Ito, which colour-blind readers can tell apart.
STYLES = {
    "plain": ("plain PyTorch loop", "#0072B2", "s"),
    "mlp": ("MLPClassifier", "#E69F00", "^"),
    "torchblob": ("torchblob", "#D55E00", "o"),
}


def seconds_of(
    size: str, value: int, device: torch.device, repeats: int
) -> dict[str, float]:
    """Return the median seconds of each candidate."""
    work = BASE if size == "networks" else replace(BASE, **{size: value})
    X, y = work.data()
    candidates = {
        "plain": partial(fit_plain, work, X, y, device),
        "mlp": partial(fit_mlp, work, X, y),
        "torchblob": partial(fit_torchblob, work, X, y, device),
    }
    if size == "networks":
        candidates["torchblob"] = partial(train_side_by_side, work, value, X, y, device)
    times = measure(candidates, repeats, device)
    factor = value if size == "networks" else 1
    return {
        name: statistics.median(of_one) * (1 if name == "torchblob" else factor)
        for name, of_one in times.items()
    }


def main() -> None:
    """Read the arguments, measure, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="docs/images/scaling.png")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_machine(args.device)
    print(f"Where it does not vary: {BASE}")
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for ax, (size, values) in zip(axes.flat, SIZES.items(), strict=True):
        times = [seconds_of(size, v, args.device, args.repeats) for v in values]
        for name, (label, color, marker) in STYLES.items():
            ax.loglog(
                values,
                [of_value[name] for of_value in times],
                label=label,
                color=color,
                marker=marker,
                markersize=5,
            )
        ax.set(xlabel=LABELS[size], ylabel="seconds")
        ax.grid(alpha=0.3)
        print_table(
            [size, *STYLES],
            [
                [str(value), *(f"{1e3 * of_value[name]:.4g} ms" for name in STYLES)]
                for value, of_value in zip(values, times, strict=True)
            ],
        )
    axes.flat[0].legend()
    figure.suptitle(f"Time of a fit: {BASE}, one size varied")
    figure.savefig(args.output, dpi=100)


if __name__ == "__main__":
    main()
