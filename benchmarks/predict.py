"""Time predict_proba against the plain module and MLPClassifier.

    python benchmarks/predict.py [--device cuda] [--repeats 9]

All three have the same two hidden layers of 8 units and take a numpy array to a numpy
array of probabilities. MLPClassifier always runs on the CPU.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import torch
from candidates import Work, fit_mlp, fit_plain, fit_torchblob
from sklearn.exceptions import ConvergenceWarning
from timing import measure, milliseconds, print_machine, print_table, ratio

TUTORIAL = Work(800, 2, 4, 8, epochs=100)
CALLS_OF_ONE_ROW = 300


def repeated(run: Callable[[], object], times: int) -> Callable[[], object]:
    """Return a function that calls `run` so many times."""

    def run_repeatedly() -> None:
        for _ in range(times):
            run()

    return run_repeatedly


def main() -> None:
    """Read the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_machine(args.device)
    X, y = TUTORIAL.data()
    ours = fit_torchblob(TUTORIAL, X, y, args.device)
    module = fit_plain(TUTORIAL, X, y, args.device)
    mlp = fit_mlp(TUTORIAL, X, y)

    def plain(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = module(torch.from_numpy(rows).to(args.device))
            return logits.softmax(1).cpu().numpy()

    table = []
    for n, times in ((1_000_000, 1), (10_000, 20), (1, CALLS_OF_ONE_ROW)):
        rows = np.resize(X, (n, 2))
        seconds = measure(
            {
                "ours": repeated(lambda rows=rows: ours.predict_proba(rows), times),
                "plain": repeated(lambda rows=rows: plain(rows), times),
                "mlp": repeated(lambda rows=rows: mlp.predict_proba(rows), times),
            },
            args.repeats,
            args.device,
        )
        per_call = [t / times for t in seconds["ours"]]
        ratios = [f"{ratio(seconds['ours'], seconds[k]):.2f}" for k in ("plain", "mlp")]
        table.append([f"{n} x 2, h=8", milliseconds(per_call), *ratios])
    header = ["predict_proba", "torchblob", "of plain", "of MLPClassifier"]
    print_table(header, table)


if __name__ == "__main__":
    main()
