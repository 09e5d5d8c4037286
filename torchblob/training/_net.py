"""The skorch net around the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.history import History
from torch import nn

from torchblob._facts import MalformedError, NotStorableError
from torchblob.nn import BlobModel
from torchblob.training._dask import current_worker, train_at
from torchblob.training._device import present_or_cpu
from torchblob.training._jobs import current_job
from torchblob.training._predictions import walk
from torchblob.training._samples import Samples
from torchblob.training._sections import complete_state, copy_state
from torchblob.training._snapshot import (
    CHANGED,
    Memory,
    drop_incomplete,
    memory_of,
    params_from,
    remember,
    settings_of,
    widths_of,
)
from torchblob.training._stack import train
from torchblob.training._task import ELEMENTWISE, Member, StopTraining, Task
from torchblob.training._weights import parameters_of


class BlobNet(NeuralNetClassifier):
    """skorch net whose loop walks tensors that lie on the device already.

    skorch brings what surrounds the loop: initialization of the module and the
    optimizer, callbacks, history, pickling across devices. Its classes are the
    indices 0 to n_classes - 1.

    Parameters
    ----------
    module : type, default=BlobModel
        The module, with parameters as `module__input_features` and so on.
    seed : int, default=0
        Determines the initial weights, and with the number of the epoch its shuffle
        and dropout.
    dtype : torch.dtype, default=torch.float32
        Of the weights and the computation.
    **kwargs
        Parameters of :class:`skorch.NeuralNetClassifier`.

    Attributes
    ----------
    was_interrupted_ : bool
        Whether a Ctrl-C ended the last training.
    """

    was_interrupted_ = False

    def __init__(
        self,
        module: Any = BlobModel,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        criterion: Any = nn.CrossEntropyLoss,
        train_split: Any = None,
        use_caching: bool = False,
        verbose: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            train_split=train_split,
            use_caching=use_caching,
            verbose=verbose,
            **kwargs,
        )
        self.seed = seed
        self.dtype = dtype

    def get_default_callbacks(self) -> list[tuple[str, Any]]:
        """Return none: the loop itself records the losses and prints them."""
        return []

    def initialize_module(self) -> BlobNet:
        """Make the module with weights that depend on `seed` alone."""
        generator = torch.Generator().manual_seed(self.seed)
        params = self.get_params_for("module")
        self.module_ = self.module(**params, generator=generator).eval()
        if self.dtype != torch.float32:  # which it has; the call takes its time
            self.module_.to(self.dtype)
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> BlobNet:
        """Make the optimizer of the module's parameters."""
        needed = (
            "optimizer must be a name or a callable (params, lr=, weight_decay=) that "
            "returns a torch.optim.Optimizer"
        )
        try:
            super().initialize_optimizer(*args, **kwargs)
        except TypeError as error:
            raise ValueError(f"{needed}. It says: {error}") from error
        if not isinstance(self.optimizer_, torch.optim.Optimizer):
            raise ValueError(f"{needed}. It returned {self.optimizer_!r}")
        return self

    def go_on_from(self, other: BlobNet, *, keep_optimizer: bool) -> None:
        """Take over another net's weights and history; it stays as it is.

        Parameters
        ----------
        other : BlobNet
            A net with a module of the same shape.
        keep_optimizer : bool
            Whether to take over the state of its optimizer too.

        Raises
        ------
        ValueError
            If the shapes of the layers or the optimizers differ, or the other's module
            is not as it was made.
        """
        layers, others = self.module_.linear_layers, other.module_.linear_layers
        now, before = ([tuple(la.weight.shape) for la in of] for of in (layers, others))
        if now != before:
            raise ValueError(
                f"it had layers of the shapes {before}, and now they are {now}"
            )
        parameters = zip(
            parameters_of(self.module_), parameters_of(other.module_), strict=True
        )
        if not other.module_.is_as_made:
            raise ValueError(CHANGED)
        for parameter, its in parameters:
            with torch.no_grad():
                parameter.copy_(its)
            parameter.requires_grad_(its.requires_grad)
        if keep_optimizer:
            self._take_optimizer_state(other)
        for group in self.optimizer_.param_groups:
            # Schedulers that go on, as skorch makes them by the length of the history,
            # read it.
            group.setdefault("initial_lr", group["lr"])
        self.history_: History = History(other.history_)

    def _take_optimizer_state(self, other: BlobNet) -> None:
        """Take over what another net's optimizer remembers, but not its settings."""
        mine, its = self.optimizer_, other.optimizer_
        if type(mine) is not type(its):
            raise ValueError(
                f"it had the optimizer {type(its).__name__}, and now it is "
                f"{type(mine).__name__}"
            )
        copy_state(mine, parameters_of(self.module_), its, parameters_of(other.module_))
        complete_state(mine)
        if self.lr == other.lr:  # a scheduler may have got it somewhere else by now
            for group, of_other in zip(
                mine.param_groups, its.param_groups, strict=True
            ):
                for name in {"lr", "initial_lr"} & of_other.keys():
                    group[name] = of_other[name]

    @classmethod
    def restored(cls, settings: dict[str, Any], memory: Memory, device: str) -> Self:
        """Return a net as it was.

        Parameters
        ----------
        settings : dict
            As :func:`settings_of` returns them.
        memory : Memory
            What it has learned, as :func:`memory_of` returns it.
        device : str
            Where it is to be.

        Raises
        ------
        MalformedError
            If these are not settings and memory of a net.
        """
        params = params_from(settings, widths_of(memory.tensors))
        try:
            net = cls(**params, device=device).initialize()
        except (RuntimeError, TypeError, ValueError) as error:
            raise MalformedError(f"no net has such settings: {error}") from error
        remember(net, memory)
        return net

    def __getstate__(self) -> dict[str, Any]:
        """Return what the net is and has learned, without code where that can be."""
        has_code = self.callbacks or self.optimizer not in ELEMENTWISE
        if has_code or not self.initialized_:
            return super().__getstate__()
        try:
            memory = memory_of(self)
            arrays = {name: tensor.numpy() for name, tensor in memory.tensors.items()}
            return {"settings": settings_of(self), "facts": memory.facts} | arrays
        except (NotStorableError, TypeError):  # also for dtypes that numpy lacks
            return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the net of that state, on its device or, without that, on the CPU."""
        if "settings" not in state:
            state["device"] = str(present_or_cpu(state["device"]))
            super().__setstate__(state)
            return
        settings, facts = state.pop("settings"), state.pop("facts")
        tensors = {name: torch.tensor(array) for name, array in state.items()}
        device = str(present_or_cpu(settings["device"]))
        net = self.restored(settings, Memory(facts, tensors), device)
        self.__dict__.update(net.__dict__)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks, of which each may ask to stop."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            raise StopTraining from stop

    def callback_datasets(self, task: Task) -> dict[str, Dataset | None]:
        """Return the data in the form that skorch's callbacks take at each epoch."""
        valid = task.valid
        return {
            "dataset_train": Dataset(task.train.X, task.train.y),
            "dataset_valid": None if valid is None else Dataset(valid.X, valid.y),
        }

    def fit_loop(
        self,
        X: Any,
        y: Any = None,
        epochs: int | None = None,
        *,
        task: Task | None = None,
        **fit_params: Any,
    ) -> BlobNet:
        """Train on `task`, or on `X` and the class indices `y` with weights of one.

        Raises
        ------
        DivergedError
            If the loss or weights are infinite or NaN, however the training ended.
        """
        if task is None:
            X = torch.as_tensor(X, dtype=self.dtype, device=self.device)
            y = torch.as_tensor(y, dtype=torch.int64, device=self.device)
            samples = Samples(X, y, X.new_ones(len(y)))
            task = Task(samples, self.max_epochs if epochs is None else epochs)
        member, self.was_interrupted_ = Member(self, task), False
        try:
            try:
                _train_together(member)
            finally:
                if self.history and "train_loss" not in self.history[-1]:
                    self.history.pop()  # an epoch that was not finished
            if task.checkpoint is not None and member.error is None:
                task.checkpoint.finish(self, task.stopping)
        except KeyboardInterrupt:
            self.was_interrupted_ = True
            drop_incomplete(self.optimizer_)
        if member.error is not None:
            raise member.error
        return self

    def check_data(self, X: Any, y: Any) -> None:
        """Trust the data: the estimator has validated them."""

    def forward_iter(
        self, X: Any, training: bool = False, device: Any = "cpu"
    ) -> Iterator[torch.Tensor]:
        """Yield the logits of `X` block by block, each (rows, n_classes), on `device`.

        Parameters
        ----------
        X : tensor, ndarray or CSR matrix of shape (n_samples, n_features)
            Other types go to skorch's own method.
        training : bool, default=False
            Only False is of use here: whether dropout is applied.
        device : str or torch.device, default="cpu"
            Where the logits are put.
        """
        if isinstance(X, np.ndarray):
            X = torch.from_numpy(X)
        if training or not (isinstance(X, torch.Tensor) or sparse.issparse(X)):
            yield from super().forward_iter(X, training=training, device=device)
            return
        for _, logits in walk(self.module_, X, slice(0, X.shape[0])):
            # A copy: the next block overwrites the kernel's.
            yield logits.mT.clone().to(device)


def _train_together(member: Member) -> None:
    """Train a network, with those of other tasks if this is the thread of one."""
    if (job := current_job()) is not None:
        job.train(member)
    elif (worker := current_worker()) is not None:
        train_at(worker, member)
    else:
        train([member])
