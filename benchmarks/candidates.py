"""The same training by torchblob, by hand in PyTorch, by MLPClassifier, by skorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_blobs
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from torchblob import TorchBlobClassifier

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class Work:
    """What is to be trained: a network with two hidden layers and ReLU, on blobs.

    Parameters
    ----------
    rows, features, classes, hidden : int
        Sizes of the data and of each hidden layer.
    epochs : int
        Passes over the data.
    optimizer : {"sgd", "adam"}, default="sgd"
        With a rate of 0.1 or 0.001.
    batch_size : int, default=None
        Rows a step; None is all.
    """

    rows: int
    features: int
    classes: int
    hidden: int
    epochs: int
    optimizer: str = "sgd"
    batch_size: int | None = None

    @property
    def lr(self) -> float:
        """The learning rate."""
        return 0.1 if self.optimizer == "sgd" else 0.001

    @property
    def flops(self) -> int:
        """Of the matrix products: forward, weights' gradients, and the way down."""
        first = self.features * self.hidden
        others = self.hidden**2 + self.hidden * self.classes
        return 2 * self.rows * self.epochs * (2 * first + 3 * others)

    def __str__(self) -> str:
        how = "full batch" if self.batch_size is None else f"batches {self.batch_size}"
        return (
            f"{self.rows}x{self.features}, {self.classes} classes, h={self.hidden}, "
            f"{self.optimizer}, {how}, {self.epochs} epochs"
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return blobs, scaled, in float32, and their classes."""
        X, y = make_blobs(
            self.rows, self.features, centers=self.classes, random_state=42
        )
        return StandardScaler().fit_transform(X).astype(np.float32), y

    def module(self) -> nn.Module:
        """Return the network as a user of PyTorch writes it."""
        return nn.Sequential(
            nn.Linear(self.features, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.classes),
        )


def estimator(work: Work, device: torch.device) -> TorchBlobClassifier:
    """Return an unfitted classifier for this work."""
    return TorchBlobClassifier(
        work.hidden,
        optimizer=work.optimizer,
        lr=work.lr,
        batch_size=work.batch_size,
        max_epochs=work.epochs,
        device=device,
        random_state=0,
    )


def fit_torchblob(
    work: Work, X: np.ndarray, y: np.ndarray, device: torch.device, **fit_params: Any
) -> TorchBlobClassifier:
    """Train by torchblob."""
    return estimator(work, device).fit(X, y, **fit_params)


def fit_plain(
    work: Work, X: np.ndarray, y: np.ndarray, device: torch.device
) -> nn.Module:
    """Train as a PyTorch user writes it by hand, without any evaluation."""
    torch.manual_seed(0)
    X_, y_ = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    model = work.module().to(device)
    optimizer = OPTIMIZERS[work.optimizer](model.parameters(), lr=work.lr)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(work.epochs):
        if work.batch_size is None:
            batches = [(X_, y_)]
        else:
            order = torch.randperm(len(X_), device=device).split(work.batch_size)
            batches = ((X_[rows], y_[rows]) for rows in order)
        for X_batch, y_batch in batches:
            loss = loss_fn(model(X_batch), y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def fit_tutorial(
    work: Work,
    X: np.ndarray,
    y: np.ndarray,
    X_val: np.ndarray,
    y_val: np.ndarray,
    device: torch.device,
) -> nn.Module:
    """Train as the tutorial does, with loss and accuracy of both sets every epoch."""
    torch.manual_seed(0)
    X_, y_ = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    X_test, y_test = torch.from_numpy(X_val).to(device), torch.from_numpy(y_val)
    y_test = y_test.to(device)
    model = work.module().to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=work.lr)

    def accuracy(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
        return torch.eq(y_true, y_pred).sum().item() / len(y_pred) * 100

    for _ in range(work.epochs):
        model.train()
        y_logits = model(X_)
        y_pred = torch.softmax(y_logits, dim=1).argmax(dim=1)
        loss = loss_fn(y_logits, y_)
        accuracy(y_, y_pred)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            test_logits = model(X_test)
            test_preds = torch.softmax(test_logits, dim=1).argmax(dim=1)
            loss_fn(test_logits, y_test)
            accuracy(y_test, test_preds)
    return model


def fit_mlp(work: Work, X: np.ndarray, y: np.ndarray) -> MLPClassifier:
    """Train by scikit-learn, on the CPU."""
    return MLPClassifier(
        (work.hidden, work.hidden),
        solver=work.optimizer,
        learning_rate_init=work.lr,
        momentum=0.0,
        nesterovs_momentum=False,
        alpha=0.0,
        batch_size=work.batch_size or work.rows,
        max_iter=work.epochs,
        n_iter_no_change=work.epochs + 1,
        random_state=0,
    ).fit(X, y)


def fit_skorch(
    work: Work, X: np.ndarray, y: np.ndarray, device: torch.device
) -> NeuralNetClassifier:
    """Train by skorch, without its printing and without validation."""
    torch.manual_seed(0)
    return NeuralNetClassifier(
        work.module(),
        criterion=nn.CrossEntropyLoss,
        optimizer=OPTIMIZERS[work.optimizer],
        lr=work.lr,
        max_epochs=work.epochs,
        batch_size=work.batch_size or -1,
        iterator_train__shuffle=work.batch_size is not None,
        train_split=None,
        verbose=0,
        device=device,
    ).fit(X, y)


def accuracy(model: Any, X: np.ndarray, y: np.ndarray, device: torch.device) -> float:
    """Return the accuracy of a fitted estimator or module."""
    if isinstance(model, nn.Module):
        with torch.no_grad():
            predicted = model(torch.from_numpy(X).to(device)).argmax(1).cpu().numpy()
    else:
        predicted = model.predict(X)
    return float((predicted == y).mean())
