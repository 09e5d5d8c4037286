"""Compare classifiers, each with its defaults, on real tables.

    python benchmarks/accuracy.py FOLDER [--only NAME ...] [--splits 3] [--device cuda]
        [--columns {raw,exponential,wild}] [--rows 120]
        [--results docs/measured/accuracy_by_split.csv]
        [--table docs/measured/accuracy.csv] [--picture docs/images/accuracy.png]
    python benchmarks/accuracy.py FOLDER --recipes [--table docs/measured/recipes.csv]

FOLDER holds a `.npz` for each data set, with `X` (n_samples, n_features) and `y`. Each
is split several times into 70 % to train on and 30 % to test on, each class in
proportion. All compute with one thread. A method is run if what it needs is installed;
RealMLP needs pytabkit. Results of methods that are not run now are kept, so that they
may come from several environments.

`--columns` changes the columns first: "exponential" makes exp(3 z) of each, z being
its standardized values, and "wild" multiplies 1 % of all cells by a million. `--rows`
trains on so many rows only, and tests on the others. `--recipes` compares settings of
TorchBlobClassifierCV in place of methods.

The calibration error is the mean distance of confidence and accuracy over 15 bins of
equal width (Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks,
ICML 2017).
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from timing import print_machine, print_table

from torchblob import TorchBlobClassifier, TorchBlobClassifierCV


def realmlp(seed: int, device: str) -> Any:
    """Return RealMLP with its tuned defaults."""
    from pytabkit import RealMLP_TD_Classifier

    return RealMLP_TD_Classifier(random_state=seed, device=device, n_threads=1)


def cross_validated(params: dict[str, Any], seed: int, device: str) -> Any:
    """Return TorchBlobClassifierCV with some settings."""
    return TorchBlobClassifierCV(device=device, random_state=seed, **params)


METHODS: dict[str, Callable[[int, str], Any]] = {
    "TorchBlobClassifierCV": partial(cross_validated, {}),
    "TorchBlobClassifierCV, refit": partial(cross_validated, {"refit": True}),
    "TorchBlobClassifier": lambda seed, device: make_pipeline(
        StandardScaler(), TorchBlobClassifier(device=device, random_state=seed)
    ),
    "MLPClassifier": lambda seed, device: make_pipeline(
        StandardScaler(), MLPClassifier(random_state=seed)
    ),
    "HistGradientBoosting": lambda seed, device: HistGradientBoostingClassifier(
        random_state=seed
    ),
    "RealMLP": realmlp,
}
"""Name -> a function (seed, device) that returns a classifier with its defaults."""

CHOICES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "the defaults, not calibrated": {"calibrate": False},
    "the best by log loss": {"scoring": "neg_log_loss"},
    "ten folds": {"cv": 10},
}
"""Name -> settings of TorchBlobClassifierCV with the default candidates."""

SINGLE: dict[str, dict[str, Any]] = {
    "standard, 64 + 64 units": {},
    "- ReLU, lr 0.01": {"activation": "relu", "lr": 0.01},
    "- GELU": {"activation": "gelu"},
    "- lr 0.005": {"lr": 0.005},
    "- dropout 0.1": {"dropout": 0.1},
    "- no label smoothing": {"label_smoothing": 0.0},
    "- label smoothing 0.2": {"label_smoothing": 0.2},
    "- weight decay 0.1": {"weight_decay": 0.1},
    "- batches of 64": {"batch_size": 64},
    "- 16 + 16 units": {"hidden_units": 16},
    "- 256 + 256 units": {"hidden_units": 256},
    "- 64 + 64 + 64 units": {"hidden_units": (64, 64, 64)},
    "- one layer of 128 units": {"hidden_units": (128,)},
    "piecewise linear, 64 + 64 units": {"encoding": "piecewise_linear"},
    "- of these, SiLU": {"encoding": "piecewise_linear", "activation": "silu"},
    "- of these, dropout 0.1": {"encoding": "piecewise_linear", "dropout": 0.1},
    "- of these, lr 0.01": {"encoding": "piecewise_linear", "lr": 0.01},
    "- of these, one layer of 128 units": {
        "encoding": "piecewise_linear",
        "hidden_units": (128,),
    },
}
"""Name -> settings with one candidate, where they are not those of `ONE`."""

ONE = {"hidden_units": 64, "encoding": "standard"}
RECIPES = CHOICES | {name: ONE | params for name, params in SINGLE.items()}

PEERS = ("MLPClassifier", "HistGradientBoosting", "RealMLP")
OURS = "TorchBlobClassifierCV"
# Colours of Okabe and Ito, which colour-blind readers can tell apart.
STYLES = {
    "TorchBlobClassifierCV": ("#D55E00", "o"),
    "TorchBlobClassifierCV, refit": ("#CC79A7", "v"),
    "MLPClassifier": ("#E69F00", "^"),
    "HistGradientBoosting": ("#009E73", "s"),
    "RealMLP": ("#0072B2", "D"),
}
MEASURES = ("accuracy", "log_loss", "calibration_error", "seconds")
Results = dict[tuple[str, str, int], dict[str, float]]


def calibration_error(y: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> float:
    """Return the mean distance of confidence and accuracy over 15 bins."""
    confidence = proba.max(1)
    is_right = classes[proba.argmax(1)] == y
    bins = np.minimum((confidence * 15).astype(int), 14)
    return float(np.abs(np.bincount(bins, is_right - confidence)).sum() / len(y))


def measure(clf: Any, X: np.ndarray, y: np.ndarray, split: Any) -> dict[str, float]:
    """Return how well a classifier does on the test rows, and the time of its fit."""
    train, test = split
    begin = time.perf_counter()
    clf.fit(X[train], y[train])
    seconds = time.perf_counter() - begin
    proba = clf.predict_proba(X[test])
    return {
        "accuracy": accuracy_score(y[test], clf.classes_[proba.argmax(1)]),
        "log_loss": log_loss(y[test], proba, labels=clf.classes_),
        "calibration_error": calibration_error(y[test], proba, clf.classes_),
        "seconds": seconds,
    }


def changed(X: np.ndarray, how: str) -> np.ndarray:
    """Return columns with long tails or wild values, or as they are."""
    if how == "exponential":
        z = StandardScaler().fit_transform(X)
        return np.exp(np.clip(3 * z, -30, 30)).astype(np.float32)
    if how == "wild":
        is_wild = np.random.default_rng(0).random(X.shape) < 0.01
        return np.where(is_wild, 1e6 * X, X).astype(np.float32)
    return X


def run(
    folder: Path,
    methods: dict[str, Callable[[int, str], Any]],
    n_splits: int,
    device: str,
    columns: str,
    n_rows: int | None,
) -> Results:
    """Return the measures of each method on each split of each data set."""
    results: Results = {}
    names = list(methods)
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            X, y = changed(data["X"], columns), data["y"]
        size = {"test_size": 0.3} if n_rows is None else {"train_size": n_rows}
        splits = StratifiedShuffleSplit(n_splits, **size, random_state=0)
        for number, split in enumerate(splits.split(X, y)):
            for name in names:
                clf = methods[name](number, device)
                results[name, path.stem, number] = measure(clf, X, y, split)
        accuracies = [results[name, path.stem, 0]["accuracy"] for name in names]
        print(path.stem, *(f"{accuracy:.3f}" for accuracy in accuracies), flush=True)
    return results


def read(path: Path) -> Results:
    """Return the results that a file has; none if there is no file."""
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {
            (row["method"], row["data"], int(row["split"])): {
                measure: float(row[measure]) for measure in MEASURES
            }
            for row in csv.DictReader(file)
        }


def write(path: Path, results: Results) -> None:
    """Write results, a row each."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "data", "split", *MEASURES])
        for key, measures in sorted(results.items()):
            writer.writerow([*key, *(f"{measures[name]:.5g}" for name in MEASURES)])


def by_set(results: Results, name: str, measure: str) -> np.ndarray:
    """Return the mean of a measure over the splits of each data set."""
    sets = sorted({data for _, data, _ in results})
    return np.array(
        [
            np.mean(
                [
                    measures[measure]
                    for (method, of, _), measures in results.items()
                    if (method, of) == (name, data)
                ]
            )
            for data in sets
        ]
    )


def summary(results: Results, names: Iterable[str]) -> list[list[str]]:
    """Return a row for each method: means over the data sets, and the time of all."""
    present = {name for name, _, _ in results}
    ours = by_set(results, OURS, "accuracy") if OURS in present else None
    rows = []
    for name in names:
        if name not in present:
            continue
        means = {measure: by_set(results, name, measure) for measure in MEASURES}
        compared = "" if ours is None else record(ours, means["accuracy"])
        rows.append(
            [
                name,
                *(f"{means[measure].mean():.4f}" for measure in MEASURES[:3]),
                f"{means['seconds'].sum():.1f} s",
                "" if name == OURS else compared,
            ]
        )
    peers = [by_set(results, name, "accuracy") for name in PEERS if name in present]
    if peers:
        best = np.max(peers, axis=0)
        compared = "" if ours is None else record(ours, best)
        name = "the best of the three peers for each set"
        rows.append([name, f"{best.mean():.4f}", "", "", "", compared])
    return rows


def record(ours: np.ndarray, other: np.ndarray) -> str:
    """Return on how many data sets ours is better, as good to 0.001, or worse."""
    difference = np.round(ours - other, 3)
    return (
        f"{(difference > 0).sum()}-{(difference == 0).sum()}-{(difference < 0).sum()}"
    )


def draw(results: Results, path: Path) -> None:
    """Draw accuracy against time, and the accuracy on each data set beside ours.

    Without the defaults of TorchBlobClassifier, which are not made for such tables and
    so far below that the others could not be told apart.
    """
    sets = sorted({data for _, data, _ in results})
    present = {name for name, _, _ in results} - {"TorchBlobClassifier"}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=[1, 1.3]
    )
    for name, (color, marker) in STYLES.items():
        if name not in present:
            continue
        accuracy = by_set(results, name, "accuracy")
        seconds = by_set(results, name, "seconds").sum()
        style = {"color": color, "marker": marker}
        left.scatter(seconds, accuracy.mean(), s=80, **style)
        left.annotate(
            name,
            (seconds, accuracy.mean()),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        if name != OURS and OURS in present:
            difference = 100 * (accuracy - by_set(results, OURS, "accuracy"))
            right.scatter(difference, sets, s=45, alpha=0.85, label=name, **style)
    left.set(xscale="log", ylabel="mean accuracy")
    left.set_xlabel("seconds to fit all data sets once, one thread")
    left.margins(0.35, 0.15)
    right.axvline(0, color=STYLES[OURS][0])
    right.invert_yaxis()
    right.set_xlabel(f"accuracy less that of {OURS}, in points")
    right.legend(fontsize=8)
    for ax in (left, right):
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Read the arguments, measure, print the table, write results and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--columns", choices=["raw", "exponential", "wild"], default="raw"
    )
    parser.add_argument("--rows", type=int)
    parser.add_argument("--recipes", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    print_machine(torch.device(args.device))
    methods = {name: METHODS[name] for name in args.only}
    if "RealMLP" in methods and importlib.util.find_spec("pytabkit") is None:
        del methods["RealMLP"]
        print("RealMLP is left out: pytabkit is not installed.")
    if args.recipes:
        methods = {
            name: partial(cross_validated, params) for name, params in RECIPES.items()
        }
    results = read(args.results) if args.results else {}
    with threadpool_limits(1):
        results |= run(
            args.folder, methods, args.splits, args.device, args.columns, args.rows
        )
    header = [
        "",
        "accuracy",
        "log loss",
        "calibration error",
        "fits",
        "better-same-worse",
    ]
    rows = summary(results, RECIPES if args.recipes else METHODS)
    if args.recipes:
        header, rows = header[:-1], [row[:-1] for row in rows]
    print_table(header, rows)
    if args.results:
        write(args.results, results)
    if args.table:
        with open(args.table, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if args.picture:
        draw(results, args.picture)


if __name__ == "__main__":
    main()
