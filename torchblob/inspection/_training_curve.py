"""Pictures of how a training went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from torchblob.inspection._panels import given_panels, new_panels
from torchblob.inspection._responses import last_estimator
from torchblob.inspection._search import candidates_by, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "TrainingCurveDisplay"

STYLES: tuple[Any, Any] = ("-", "--")
"""Of the lines of training and of validation rows."""


class TrainingCurveDisplay:
    """Picture of loss and accuracy by epoch.

    Make one by :meth:`from_estimator`.

    Parameters
    ----------
    epochs : array-like of shape (n_epochs,)
        Numbers of the epochs, from 1.
    train_loss : array-like of shape (n_epochs,)
        Mean loss of the training rows, in nats, in the course of each epoch.
    valid_loss : array-like of shape (n_epochs,), default=None
        That of the validation rows, at its end; NaN where there were none.
    train_acc, valid_acc : array-like of shape (n_epochs,), default=None
        Their accuracies, 0 to 1.
    best_epoch : int, default=None
        The epoch whose weights early stopping kept.
    name : str, default=None
        What is trained.

    Attributes
    ----------
    lines_ : list of :class:`~matplotlib.lines.Line2D`
        The curves.
    axes_ : list of :class:`~matplotlib.axes.Axes`
        Of the loss and, where there is one, of the accuracy.
    ax_ : :class:`~matplotlib.axes.Axes`
        The first of them.
    figure_ : :class:`~matplotlib.figure.Figure`
        Their figure.
    candidates_ : list of TrainingCurveDisplay
        The pictures of all candidates, where :meth:`from_search` drew them.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores by the number of rows.
    sklearn.model_selection.ValidationCurveDisplay : Scores by a parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torchblob import TorchBlobClassifier
    >>> from torchblob.inspection import TrainingCurveDisplay
    >>> clf = TorchBlobClassifier(
    ...     early_stopping=True, max_epochs=300, random_state=0, device="cpu"
    ... )
    >>> display = TrainingCurveDisplay.from_estimator(
    ...     clf.fit(*load_iris(return_X_y=True))
    ... )
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['loss (nats)', 'accuracy']
    """

    candidates_: list[TrainingCurveDisplay]

    def __init__(
        self,
        *,
        epochs: Any,
        train_loss: Any,
        valid_loss: Any = None,
        train_acc: Any = None,
        valid_acc: Any = None,
        best_epoch: int | None = None,
        name: str | None = None,
    ) -> None:
        self.epochs = epochs
        self.train_loss, self.valid_loss = train_loss, valid_loss
        self.train_acc, self.valid_acc = train_acc, valid_acc
        self.best_epoch, self.name = best_epoch, name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> TrainingCurveDisplay:
        """Draw how a fitted classifier was trained.

        Parameters
        ----------
        estimator : TorchBlobClassifier
            Fitted; also at the end of a Pipeline or found by a search.
        name : str, default=None
            What it is called in the legend, where there are several.
        ax : matplotlib Axes, or a sequence of two, default=None
            Where to draw: the loss, and the accuracy if there are two. None makes a
            figure. `display.axes_` of another display puts the curves into its picture.
        **kwargs
            Of :meth:`~matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The picture.

        Raises
        ------
        ValueError
            If the estimator has no history, or there are more than two axes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import TrainingCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> first = TorchBlobClassifier(8, lr=0.03, max_epochs=500, random_state=0)
        >>> second = TorchBlobClassifier(16, lr=0.03, max_epochs=500, random_state=0)
        >>> display = TrainingCurveDisplay.from_estimator(first.fit(X, y), name="8")
        >>> other = TrainingCurveDisplay.from_estimator(
        ...     second.fit(X, y), name="16", ax=display.axes_
        ... )
        >>> other.ax_ is display.ax_
        True
        """
        check_is_fitted(estimator)
        estimator, _ = last_estimator(estimator)
        if not hasattr(estimator, "history_"):
            raise ValueError(
                f"{NAME} needs a fitted TorchBlobClassifier, also at the end of a "
                "Pipeline or found by a search with refit=True; of a "
                f"TorchBlobClassifierCV one of its members_. Got {estimator!r}."
            )
        history = estimator.history_
        curves = {
            key: np.array([row.get(key, np.nan) for row in history])
            for key in ("train_loss", "valid_loss", "train_acc", "valid_acc")
            if any(key in row for row in history)
        }
        display = cls(
            epochs=np.array([row["epoch"] for row in history]),
            best_epoch=getattr(estimator, "best_epoch_", None),
            name=name,
            **curves,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_search(
        cls,
        search: Any,
        X: Any,
        y: Any,
        *,
        param: str | None = None,
        groups: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> TrainingCurveDisplay:
        """Draw how the candidates of a search train, by one of their parameters.

        A search keeps no curves, so the candidates are trained once more, on the folds
        of the search, together in a stack where they can be. Curves are the means of
        the folds, as far as all folds are trained. Validation rows are those that the
        fold is scored on, if it is trained on their class, or, with early stopping,
        those that it watches.

        Parameters
        ----------
        search : GridSearchCV or another search, fitted
            Of a TorchBlobClassifier, also at the end of a Pipeline.
        X, y : as given to the search's `fit`
            Its data. Folds that are drawn without a `random_state` are drawn anew, and
            sample weights are not used.
        param : str, default=None
            The parameter, as the search names it. Those candidates are drawn that agree
            with the best in all others; where no two do, all. None is the only one that
            varies.
        groups : array-like of shape (n_samples,), default=None
            As given to the search's `fit`, where its folds need them.
        ax : matplotlib Axes, or a sequence of two, default=None
            As in :meth:`from_estimator`.
        **kwargs
            Of :meth:`~matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            That of the best candidate, or of the first where the search knows no best.
            Its `candidates_` has them all, in the order of the parameter.

        Raises
        ------
        ValueError
            If the search is of other estimators, or `param` none of its parameters.
        Exception
            That of a training, if all candidates fail.

        Warns
        -----
        UserWarning
            If candidates are left out, which can't be trained.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import GridSearchCV
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import TrainingCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(n_iter_no_change=100, random_state=0)
        >>> search = GridSearchCV(clf, {"lr": [0.1, 0.2, 0.3]}).fit(X, y)
        >>> display = TrainingCurveDisplay.from_search(search, X, y)
        >>> [candidate.name for candidate in display.candidates_]
        ['lr=0.1', 'lr=0.2', 'lr=0.3']
        """
        import matplotlib as mpl
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D

        caller, has_own_figure = f"{NAME}.from_search", ax is None
        if ax is not None:
            ax = _axes(ax, 2)
        candidates = candidates_by(search, param, caller)
        found = curves_of(search, candidates, X, y, groups, caller)
        displays = [cls(name=candidate.name, **own) for candidate, own in found]
        # In their order, from dark to light, without the palest.
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(displays)))
        kwargs = normalize_kwargs(kwargs, Line2D)  # `c` is "color", and so on
        for display, color in zip(displays, colors, strict=True):
            # Each is named once; what solid and dashed lines are is said for all.
            labels = str(display.name), "_validation", ""
            display._plot(ax, labels, {"color": color} | kwargs)
            ax = display.axes_
        _draw_legend(displays[0], outside=has_own_figure)
        of_best = (d for d, (c, _) in zip(displays, found, strict=True) if c.is_best)
        display = next(of_best, displays[0])
        display.candidates_ = displays
        return display

    def plot(
        self, ax: Any = None, *, name: str | None = None, **kwargs: Any
    ) -> TrainingCurveDisplay:
        """Draw the picture, again if need be.

        Parameters
        ----------
        ax : matplotlib Axes, or a sequence of two, default=None
            As in :meth:`from_estimator`.
        name : str, default=None
            Instead of the display's own.
        **kwargs
            Of :meth:`~matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            This one.

        Raises
        ------
        ValueError
            If there are more than two axes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import TrainingCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(lr=0.03, max_epochs=500, random_state=0)
        >>> display = TrainingCurveDisplay.from_estimator(clf.fit(X, y))
        >>> display.plot(color="black", linewidth=2).lines_[0].get_linewidth()
        2.0
        """
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D

        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        parts = "training", "validation", f"weights of epoch {self.best_epoch}"
        labels = [prefix + part for part in parts]
        self._plot(ax, labels, normalize_kwargs(kwargs, Line2D))
        for on in self.axes_:
            if on.get_legend_handles_labels()[0]:
                on.legend()
        return self

    def _plot(self, ax: Any, labels: Sequence[str], kwargs: dict[str, Any]) -> None:
        """Draw the curves of the loss and the accuracy, without a legend.

        There are labels of training and validation rows, and of the chosen epoch, and
        arguments of lines by their full names.
        """
        from matplotlib.ticker import MaxNLocator

        has_accuracy = self.train_acc is not None or self.valid_acc is not None
        self.axes_ = _axes(ax, 1 + has_accuracy)
        self.lines_: list[Any] = []
        curves = [(self.train_loss, self.valid_loss), (self.train_acc, self.valid_acc)]
        for on, what, of_parts in zip(
            self.axes_, ("loss (nats)", "accuracy"), curves, strict=False
        ):
            self._draw(on, of_parts, labels, kwargs)
            on.set_xlabel("epoch")
            on.xaxis.set_major_locator(MaxNLocator(integer=True))
            on.set_ylabel(what)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure

    def _draw(
        self,
        ax: Axes,
        curves: tuple[Any, Any],
        labels: Sequence[str],
        kwargs: dict[str, Any],
    ) -> None:
        """Draw the curves of training and validation rows, in one colour."""
        # Solid and dashed, so that several estimators differ by their colours.
        if len(self.epochs) == 1:
            kwargs = {"marker": "o"} | kwargs
        color = kwargs.get("color")
        for values, label, style in zip(curves, labels[:2], STYLES, strict=True):
            if values is None:
                continue
            own: dict[str, Any] = {"linestyle": style, "color": color, "label": label}
            (line,) = ax.plot(self.epochs, values, **own | kwargs)
            color = line.get_color()
            self.lines_.append(line)
        train, valid = curves
        watched = train if valid is None else valid
        epochs = list(self.epochs)
        if watched is not None and self.best_epoch in epochs:
            at = epochs.index(self.best_epoch)
            ax.plot(
                [epochs[at]],
                [watched[at]],
                "o",
                color=color,
                markeredgecolor="black",
                label=labels[2],
            )


def _draw_legend(display: TrainingCurveDisplay, *, outside: bool) -> None:
    """Name all lines that have a name, and what solid and dashed ones are."""
    from matplotlib.lines import Line2D

    axes = display.axes_
    handles, names = axes[-1].get_legend_handles_labels()
    curves = display.train_loss, display.valid_loss
    for values, what, style in zip(
        curves, ("training", "validation"), STYLES, strict=True
    ):
        if values is not None:
            handles.append(Line2D([], [], color="0.4", linestyle=style))
            names.append(what)
    if outside:
        axes[0].figure.legend(handles, names, loc="outside right upper")
    else:
        axes[-1].legend(handles, names)


def _axes(ax: Any, n: int) -> list[Axes]:
    """Return axes for as many curves, or those that are given."""
    if ax is None:
        return new_panels(n, (4.5 + 1 / n, 4), shared=False)
    return given_panels(
        ax,
        [1, 2],
        f"{NAME} needs one or two axes, of the loss and the accuracy",
        "leave `ax` out, or give those of matplotlib.pyplot.subplots(1, 2)",
    )
