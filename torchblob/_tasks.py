"""scikit-learn's callback protocol (`sklearn.callback`, scikit-learn >= 1.9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.base import BaseEstimator

from torchblob.training import BlobNet

__all__ = [
    "FRAMES_OF_WITH_CALLBACKS",
    "CallbackSupportMixin",
    "epoch_tasks",
    "with_callbacks",
]

FRAMES_OF_WITH_CALLBACKS = 1
"""Calls between a method's caller and the method, for a warning's stacklevel."""

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9
    FRAMES_OF_WITH_CALLBACKS = 0

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return `method`: this scikit-learn has no callbacks."""
        return method


class FitTasks:
    """Tells an estimator's scikit-learn callbacks of a fit and of each epoch in it.

    Parameters
    ----------
    estimator : estimator
        Whose callbacks are told.
    net : BlobNet
        What the estimator is being fitted with.
    max_epochs : int
        Number of tasks within the fit, at most.
    **data
        `X`, `y` and `metadata` of the fit, as the user passed them.
    """

    def __init__(
        self, estimator: BaseEstimator, net: BlobNet, max_epochs: int, **data: Any
    ) -> None:
        self.data = {"estimator": estimator, **data}
        self.fitted = {"reconstruction_attributes": {"net_": net}}
        self.root = estimator._init_callback_context(max_subtasks=max_epochs)
        self.root.call_on_fit_task_begin(**self.data)

    def begin(self) -> None:
        """Begin an epoch."""
        self.epoch = self.root.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.data, **self.fitted)

    def end(self) -> bool:
        """End the epoch; return whether a callback asks to stop."""
        return bool(self.epoch.call_on_fit_task_end(**self.data, **self.fitted))

    def finish(self) -> None:
        """End the fit."""
        self.root.call_on_fit_task_end(**self.data, **self.fitted)


@contextmanager
def epoch_tasks(
    estimator: BaseEstimator, net: BlobNet, X: Any, y: Any, sample_weight: Any
) -> Iterator[FitTasks | None]:
    """Tell the estimator's callbacks of a fit around the block, if it has any.

    Without callbacks there is nobody to tell, and a fit of a few milliseconds spares
    the bookkeeping of its epochs.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        yield None
        return
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    tasks = FitTasks(estimator, net, estimator.max_epochs, X=X, y=y, metadata=metadata)
    yield tasks
    tasks.finish()
