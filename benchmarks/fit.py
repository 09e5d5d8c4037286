"""Time fits against a plain PyTorch loop, MLPClassifier and stock skorch.

    python benchmarks/fit.py [--device cuda] [--repeats 7] [--only 0 3] [--skorch]

Each candidate trains the same network on the same float32 data for the same number of
steps, without any evaluation, through its public interface. They learn the same: the
accuracies are printed. MLPClassifier always runs on the CPU.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial

import numpy as np
import torch
from candidates import (
    Work,
    accuracy,
    estimator,
    fit_mlp,
    fit_plain,
    fit_skorch,
    fit_torchblob,
    fit_tutorial,
)
from sklearn.exceptions import ConvergenceWarning
from timing import (
    gemm_rate,
    measure,
    milliseconds,
    print_machine,
    print_table,
    ratio,
)

from torchblob._data import check_table
from torchblob._problem import make_net, make_task
from torchblob.training import Member, train

TUTORIAL = Work(800, 2, 4, 8, epochs=100)
WORKS = [
    TUTORIAL,
    Work(20_000, 20, 4, 64, epochs=20),
    Work(20_000, 20, 4, 64, epochs=3, optimizer="adam", batch_size=200),
    Work(100_000, 50, 8, 128, epochs=3),
    Work(100_000, 50, 8, 128, epochs=1, optimizer="adam", batch_size=256),
    Work(200_000, 100, 8, 256, epochs=1),
]


def fits(work: Work, device: torch.device, repeats: int, skorch: bool) -> list[str]:
    """Return the row of a work: the times, and what they are of the others'."""
    X, y = work.data()
    candidates = {
        "torchblob": partial(fit_torchblob, work, X, y, device),
        "plain": partial(fit_plain, work, X, y, device),
        "mlp": partial(fit_mlp, work, X, y),
    }
    if skorch:
        candidates["skorch"] = partial(fit_skorch, work, X, y, device)
    scores = {n: accuracy(run(), X, y, device) for n, run in candidates.items()}
    print(f"{work}: accuracy " + ", ".join(f"{n} {s:.3f}" for n, s in scores.items()))
    seconds = measure(candidates, repeats, device)
    ours = seconds["torchblob"]
    row = [str(work), milliseconds(ours)]
    row += [f"{ratio(ours, seconds[n]):.2f}" for n in list(candidates)[1:]]
    rate = work.flops / np.median(ours)
    return [*row, f"{100 * rate / gemm_rate(device):.0f} %"]


def with_validation(device: torch.device, repeats: int) -> list[str]:
    """Return the row of the tutorial with its evaluations."""
    X, y = TUTORIAL.data()
    X_val, y_val = X[:200] + np.float32(0.01), y[:200]
    candidates = {
        "torchblob": partial(
            fit_torchblob, TUTORIAL, X, y, device, X_val=X_val, y_val=y_val
        ),
        "tutorial": partial(fit_tutorial, TUTORIAL, X, y, X_val, y_val, device),
    }
    seconds = measure(candidates, repeats, device)
    ours = seconds["torchblob"]
    name = f"{TUTORIAL}, evaluated each epoch, of the tutorial's loop"
    return [name, milliseconds(ours), f"{ratio(ours, seconds['tutorial']):.2f}"]


def train_side_by_side(
    work: Work, n_networks: int, X: np.ndarray, y: np.ndarray, device: torch.device
) -> None:
    """Train networks that differ in their seed as one stack, checks and all."""
    members = []
    for k in range(n_networks):
        clf = estimator(work, device).set_params(random_state=k)
        table = check_table(clf, X, y, None, reset=True)
        clf.classes_ = np.unique(table.y)
        net = make_net(clf, table.X, None)
        task = make_task(clf, net, table, None, weighted=False)
        members.append(Member(net, task))
    train(members)


def stacked(n_networks: int, device: torch.device, repeats: int) -> None:
    """Print how long networks train side by side, and one by one."""
    X, y = TUTORIAL.data()

    def one_by_one() -> None:
        for k in range(n_networks):
            estimator(TUTORIAL, device).set_params(random_state=k).fit(X, y)

    candidates = {
        "ours": partial(train_side_by_side, TUTORIAL, n_networks, X, y, device),
        "one by one": one_by_one,
    }
    seconds = measure(candidates, repeats, device)
    ours, single = seconds.values()
    print(
        f"\n{n_networks} networks, {TUTORIAL}: side by side {milliseconds(ours)}, "
        f"{ratio(ours, single):.3f} of one by one, {milliseconds(single)}"
    )


def main() -> None:
    """Read the arguments, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", type=int, nargs="*", default=range(len(WORKS)))
    parser.add_argument("--networks", type=int, default=100, help="of the stack")
    parser.add_argument("--skorch", action="store_true", help="time stock skorch too")
    args = parser.parse_args()
    # The number of epochs is given; whether more would help is not the question.
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_machine(args.device)
    rows = [fits(WORKS[i], args.device, args.repeats, args.skorch) for i in args.only]
    header = ["fit", "torchblob", "of plain", "of MLPClassifier"]
    header += ["of skorch"] * args.skorch + ["of GEMM rate"]
    print_table(header, rows)
    header = ["fit", "torchblob", "ratio"]
    print_table(header, [with_validation(args.device, args.repeats)])
    stacked(args.networks, args.device, max(3, args.repeats // 2))


if __name__ == "__main__":
    main()
