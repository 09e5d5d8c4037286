"""Time a grid search whose fits train together against the usual ways.

    python benchmarks/search.py [--device cuda] [--repeats 5] [--many 1000] [--skorch]

20 candidates and 5 folds, 100 fits of 100 epochs on the tutorial's 800 rows, without a
refit. The results with and without the backend must be the same. `--many` fits in one
search are timed too, with the memory that they take at their peak.
"""

from __future__ import annotations

import argparse
import resource
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import torch
from candidates import Work
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from timing import measure, milliseconds, print_machine, print_table, ratio

from torchblob import BlobModel, TorchBlobClassifier

TUTORIAL = Work(800, 2, 4, 8, epochs=100)
WIDTHS, RATES = [2, 4, 8, 16, 32], [0.01, 0.03, 0.1, 0.3]


def search(estimator: Any, grid: dict[str, Any], n_jobs: int | None = None) -> Any:
    """Return a grid search, not fitted yet."""
    return GridSearchCV(estimator, grid, cv=5, refit=False, n_jobs=n_jobs)


def ours(device: torch.device, rates: list[float] = RATES) -> Any:
    """Return the search over our classifier."""
    clf = TorchBlobClassifier(max_epochs=100, device=device, random_state=0)
    return search(clf, {"hidden_units": WIDTHS, "lr": rates})


def with_mlp() -> Any:
    """Return the search over MLPClassifier, in two processes."""
    clf = MLPClassifier(
        solver="sgd",
        alpha=0.0,
        batch_size=TUTORIAL.rows,
        momentum=0.0,
        max_iter=100,
        n_iter_no_change=1000,
        random_state=0,
    )
    widths = [(width, width) for width in WIDTHS]
    grid = {"hidden_layer_sizes": widths, "learning_rate_init": RATES}
    return search(clf, grid, n_jobs=2)


def with_skorch(device: torch.device) -> Any:
    """Return the search over stock skorch, in two processes."""
    net = NeuralNetClassifier(
        BlobModel,
        module__input_features=TUTORIAL.features,
        module__output_features=TUTORIAL.classes,
        criterion=torch.nn.CrossEntropyLoss,
        batch_size=TUTORIAL.rows,
        max_epochs=100,
        train_split=None,
        verbose=0,
        device=str(device),
    )
    return search(net, {"module__hidden_units": WIDTHS, "lr": RATES}, n_jobs=2)


def together(run: Callable[[], Any]) -> Any:
    """Return what `run` returns under the backend."""
    with joblib.parallel_config(backend="torchblob"):
        return run()


def peak_megabytes() -> float:
    """Return the most memory that this process has had, in MB of 2**20 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--many", type=int, default=1000, help="fits of a large search")
    parser.add_argument("--skorch", action="store_true", help="time stock skorch too")
    args = parser.parse_args()
    device = torch.device(args.device)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Got `batch_size`")  # of a fold
    print_machine(device)
    X, y = TUTORIAL.data()

    candidates = {
        "torchblob": lambda: together(lambda: ours(device).fit(X, y)),
        "one by one": lambda: ours(device).fit(X, y),
        "one by one, n_jobs=2": lambda: ours(device).set_params(n_jobs=2).fit(X, y),
        "MLPClassifier, n_jobs=2": lambda: with_mlp().fit(X, y),
    }
    if args.skorch:
        candidates["skorch, n_jobs=2"] = lambda: with_skorch(device).fit(X, y)
    scores = [
        candidates[name]().cv_results_["mean_test_score"]
        for name in ("torchblob", "one by one")
    ]
    same = "the same" if np.array_equal(*scores) else f"different: {scores}"
    print(f"mean_test_score with and without the backend: {same}")
    seconds = measure(candidates, args.repeats, device)
    rows = [
        [name, milliseconds(times), f"{ratio(seconds['torchblob'], times):.3f}"]
        for name, times in seconds.items()
    ]
    print_table(["search of 100 fits", "time", "torchblob takes"], rows)

    rates = np.geomspace(0.01, 0.3, args.many // (5 * len(WIDTHS))).tolist()
    before = peak_megabytes()
    sizes = {
        "100": candidates["torchblob"],
        "many": lambda: together(lambda: ours(device, rates).fit(X, y)),
    }
    seconds = measure(sizes, max(1, args.repeats // 2), device)
    n_fits = len(rates) * 5 * len(WIDTHS)
    times = ratio(seconds["many"], seconds["100"])
    print(
        f"\n{n_fits} fits in one search: {milliseconds(seconds['many'])}, {times:.1f} "
        f"times that of 100; peak memory {peak_megabytes():.0f} MB, "
        f"{before:.0f} MB before"
    )


if __name__ == "__main__":
    main()
