"""Time a fit against a plain PyTorch loop, MLPClassifier and stock skorch.

    python benchmarks/fit.py [SIZE ...] [--device cuda] [--epochs 100] ...

A SIZE is ROWSxFEATURESxCLASSESxHIDDEN, for example 800x2x4x8, the tutorial's. All four
train the same network (two hidden layers, ReLU) on the same float32 data for the same
number of epochs and steps, without any evaluation; the last column but one shows that
they learned the same. MLPClassifier always runs on the CPU.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from timing import measure, print_machine, print_table
from torch import nn

from torchblob import TorchBlobClassifier

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def make_module(features: int, classes: int, hidden: int) -> nn.Module:
    """Return the network that all candidates train."""
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def fit_plain(X: np.ndarray, y: np.ndarray, hidden: int, args: Any) -> nn.Module:
    """Train as a PyTorch user writes it by hand."""
    torch.manual_seed(0)
    X_, y_ = torch.from_numpy(X).to(args.device), torch.from_numpy(y).to(args.device)
    model = make_module(X.shape[1], int(y.max()) + 1, hidden).to(args.device)
    optimizer = OPTIMIZERS[args.optimizer](model.parameters(), lr=args.lr)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(args.epochs):
        if args.batch_size is None:
            batches = [(X_, y_)]
        else:
            order = torch.randperm(len(X_), device=args.device).split(args.batch_size)
            batches = ((X_[rows], y_[rows]) for rows in order)
        for X_batch, y_batch in batches:
            loss = loss_fn(model(X_batch), y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def make_candidates(
    X: np.ndarray, y: np.ndarray, hidden: int, args: Any
) -> dict[str, Callable[[], Any]]:
    """Return a function for each candidate that trains it anew."""
    size = len(X) if args.batch_size is None else args.batch_size
    common = {"batch_size": size, "random_state": 0}

    def ours() -> Any:
        return TorchBlobClassifier(
            hidden,
            optimizer=args.optimizer,
            lr=args.lr,
            max_epochs=args.epochs,
            device=args.device,
            **common,
        ).fit(X, y)

    def mlp() -> Any:
        return MLPClassifier(
            (hidden, hidden),
            solver=args.optimizer,
            learning_rate_init=args.lr,
            momentum=0.0,
            nesterovs_momentum=False,
            alpha=0.0,
            max_iter=args.epochs,
            n_iter_no_change=args.epochs + 1,
            **common,
        ).fit(X, y)

    def stock_skorch() -> Any:
        torch.manual_seed(0)
        return NeuralNetClassifier(
            make_module(X.shape[1], int(y.max()) + 1, hidden),
            criterion=nn.CrossEntropyLoss,
            optimizer=OPTIMIZERS[args.optimizer],
            lr=args.lr,
            max_epochs=args.epochs,
            batch_size=size,
            iterator_train__shuffle=args.batch_size is not None,
            train_split=None,
            verbose=0,
            device=args.device,
        ).fit(X, y)

    return {
        "plain PyTorch loop": lambda: fit_plain(X, y, hidden, args),
        "torchblob": ours,
        "MLPClassifier": mlp,
        "skorch": stock_skorch,
    }


def accuracy(model: Any, X: np.ndarray, y: np.ndarray, device: torch.device) -> float:
    """Return the accuracy of a fitted estimator or module."""
    if isinstance(model, nn.Module):
        with torch.no_grad():
            predicted = model(torch.from_numpy(X).to(device)).argmax(1).cpu().numpy()
    else:
        predicted = model.predict(X)
    return float((predicted == y).mean())


def finished(run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return `run`, made to wait until the device has done the work."""

    def run_and_wait() -> Any:
        model = run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return model

    return run_and_wait


def main() -> None:
    """Read the arguments, measure, print a table for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", default=["800x2x4x8", "20000x20x4x64"])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    # The number of epochs is given; whether more would help is not the question.
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_machine(args.device)
    batches = "full batch" if args.batch_size is None else f"batches {args.batch_size}"
    for size in args.sizes:
        rows, features, classes, hidden = map(int, size.split("x"))
        X, y = make_blobs(rows, features, centers=classes, random_state=42)
        X = StandardScaler().fit_transform(X).astype(np.float32)
        candidates = {
            name: finished(run, args.device)
            for name, run in make_candidates(X, y, hidden, args).items()
        }
        scores = {
            name: accuracy(run(), X, y, args.device) for name, run in candidates.items()
        }
        print(f"\nfit {size}, {args.optimizer}, {batches}, {args.epochs} epochs")
        print_table(measure(candidates, args.repeats), "plain PyTorch loop")
        print("accuracy: " + ", ".join(f"{n} {s:.4f}" for n, s in scores.items()))


if __name__ == "__main__":
    main()
