"""Pictures of the regions that a classifier gives to its classes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import inspection
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from torchblob.inspection._animation import RecordedTraining
from torchblob.inspection._colors import class_colors
from torchblob.inspection._panels import given_panels, new_panels
from torchblob.inspection._plane import NAME, as_array, make_plane
from torchblob.inspection._responses import (
    OF_PROBABILITIES,
    RESPONSES,
    answers_of,
    first_layer_of,
    leads_of,
    scores_of,
)

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

METHODS = ("image", "contourf", "contour", "pcolormesh")

OF_CONTOURS = {
    *("levels", "colors", "extend", "hatches", "antialiased"),
    *("linewidths", "linestyles", "corner_mask", "nchunk", "locator"),
}
"""Arguments of contours, which an image has not."""

POINT: dict[str, Any] = {
    **{"s": 18, "edgecolors": "white", "linewidths": 0.5, "zorder": 2}
}
"""How data are drawn."""

PIXELS = 600
"""Into so many pixels a side, at least, an image of regions is interpolated."""

PALEST, STRONGEST = 0.12, 0.62
"""The share of its colour that a region has where the classifier is least sure, and
most."""


class DecisionBoundaryDisplay(inspection.DecisionBoundaryDisplay):
    """Picture of the regions that a classifier gives to its classes.

    A superset of :class:`sklearn.inspection.DecisionBoundaryDisplay`, whose arguments
    all work. Make one by :meth:`from_estimator`.

    What is painted is which class leads: whose score is higher than all others. So a
    border lies where the scores of two classes are equal, interpolated linearly between
    the points of the grid, and no class is painted where others lead.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (n, m)
        The grid, as of :func:`numpy.meshgrid`.
    response : ndarray of shape (n, m) or (n, m, n_classes)
        What the classifier answers there: a number, or a score for each class.
    n_classes : int, default=None
        Number of classes. None is that of `leads` or `response`, or two.
    leads : ndarray of shape (n, m, n_classes), default=None
        The score of each class less the highest of the others. None is that of a
        `response` with a score for each class; without either, the picture is
        scikit-learn's.
    confidence : ndarray of shape (n, m), default=None
        How sure the classifier is, 0 to 1, which shades the regions. None is 1.
    classes : array-like of shape (n_classes,), default=None
        Their names. None is 0, 1, and so on.
    quantity : str, default=None
        Name of a two-dimensional `response` that is to be shown by its values, beside a
        bar of colours, instead of the regions.
    points : ndarray of shape (n_samples, 2), default=None
        Where data lie in the plane.
    y : array-like of shape (n_samples,), default=None
        Their classes.
    y_pred : array-like of shape (n_samples,), default=None
        What the classifier predicts for them. Those that differ are marked.
    units : ndarray of shape (n, m, n_units), default=None
        What the units of a network's first layer get before their activation.
    note : str, default=""
        What the picture must say of itself, below the x axis.
    multiclass_colors : str or list of matplotlib colours, default=None
        Colours of the classes, two or more: the name of a colormap or a colour each.
        None is a sequence that colour-blind readers can tell apart.
    xlabel, ylabel : str, default=None
        Labels of the axes.

    Attributes
    ----------
    surface_ : artist or list of artists
        What paints the regions: an :class:`~matplotlib.image.AxesImage`, or as of
        `plot_method`.
    borders_ : list of :class:`~matplotlib.contour.QuadContourSet`
        The lines between classes.
    points_ : list of :class:`~matplotlib.collections.PathCollection`
        The data of each class, and last those that are misclassified.
    multiclass_colors_ : ndarray of shape (n_classes, 4)
        Colours of the classes, RGBA.
    ax_ : :class:`~matplotlib.axes.Axes`
        Where it is drawn.
    axes_ : list of :class:`~matplotlib.axes.Axes`
        The panels of :meth:`plot_classes`.
    figure_ : :class:`~matplotlib.figure.Figure`
        The figure of that.
    test_ : DecisionBoundaryDisplay
        The picture of the test data, where :meth:`from_estimator` was given some.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from torchblob import TorchBlobClassifier
    >>> from torchblob.inspection import DecisionBoundaryDisplay
    >>> X, y = make_moons(200, noise=0.2, random_state=0)
    >>> clf = TorchBlobClassifier(lr=0.5, random_state=0, device="cpu").fit(X, y)
    >>> display = DecisionBoundaryDisplay.from_estimator(clf, X, y)
    >>> display.ax_.get_title()
    'Accuracy 88.0%'
    """

    def __init__(
        self,
        *,
        xx0: np.ndarray,
        xx1: np.ndarray,
        response: np.ndarray,
        n_classes: int | None = None,
        leads: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
        classes: Any = None,
        quantity: str | None = None,
        points: np.ndarray | None = None,
        y: Any = None,
        y_pred: Any = None,
        units: np.ndarray | None = None,
        note: str = "",
        multiclass_colors: str | Sequence[Any] | None = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
    ) -> None:
        self.xx0, self.xx1, self.response = xx0, xx1, response
        self.n_classes = n_classes
        self.leads, self.confidence, self.classes = leads, confidence, classes
        self.quantity = quantity
        self.points, self.y, self.y_pred = points, y, y_pred
        self.units, self.note = units, note
        self.multiclass_colors = multiclass_colors
        self.xlabel, self.ylabel = xlabel, ylabel

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        X_test: Any = None,
        y_test: Any = None,
        features: Any = None,
        held: Mapping[Any, Any] | None = None,
        grid_resolution: int = 300,
        eps: float | None = None,
        xlim: tuple[float, float] | None = None,
        ylim: tuple[float, float] | None = None,
        plot_method: str | None = None,
        response_method: str = "auto",
        class_of_interest: Any = None,
        multiclass_colors: str | Sequence[Any] | None = None,
        first_layer: bool = False,
        xlabel: str | None = None,
        ylabel: str | None = None,
        title: str | None = None,
        legend: bool = True,
        ax: Any = None,
        **kwargs: Any,
    ) -> DecisionBoundaryDisplay:
        """Draw the regions of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted: any of scikit-learn's kind, also a Pipeline or a search. Regressors,
            outlier detectors and clusterers are drawn as scikit-learn does.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Data, around which the picture extends.
        y : array-like of shape (n_samples,), default=None
            Their classes. With them, the data are drawn over the regions.
        X_test, y_test : like `X` and `y`, default=None
            Other data, for a second panel at the right, with the same limits.
        features : tuple of two ints or names, or "pca", default=None
            Which two features the picture shows, where there are more, with the others
            held; or the plane of the first two principal components of `X`.
        held : mapping, default=None
            Values of features that are held, by index or name. Others are held at their
            median, or what is most frequent where they are not numbers.
        grid_resolution : int, default=300
            Points of the grid a side.
        eps : float, default=None
            How far the picture extends beyond the data. None is a twentieth of their
            range.
        xlim, ylim : tuple of two floats, default=None
            Limits of the picture, instead.
        plot_method : {"image", "contourf", "contour", "pcolormesh"}, default=None
            How regions are painted: by an image, interpolated; by areas or by lines of
            equal lead; by the cells of the grid. None is "image", or "contourf" where
            `kwargs` has arguments of contours such as `levels`.
        response_method : str, default="auto"
            "predict_proba", "decision_function" or "predict"; "auto" is the first of
            them that agrees with what the classifier predicts for `X`. Regions are
            shaded by the probability of their class, or by how far its decision
            function leads. "entropy" (in bits) and "margin" (of the two largest
            probabilities) show these numbers instead.
        class_of_interest : label, default=None
            A class whose score is to be shown instead.
        multiclass_colors : str or list of matplotlib colours, default=None
            Colours of the classes: see the class.
        first_layer : bool, default=False
            Whether to draw where the units of a network's first layer switch: where
            what they get before their activation is zero. For TorchBlobClassifier, also
            at the end of a Pipeline.
        xlabel, ylabel : str, default=None
            Labels of the axes. None is the names of the features.
        title : str, default=None
            Title. None is the accuracy, where there is a `y`.
        legend : bool, default=True
            Whether the classes are named, where there is a `y`.
        ax : matplotlib Axes, or two of them for test data, default=None
            Where to draw. None makes a figure.
        **kwargs
            Of the artist that paints: of :meth:`~matplotlib.axes.Axes.imshow` for
            "image", else of the method of that name. For two classes, `cmap`, `colors`
            and `levels` show the response itself, as scikit-learn does; for more,
            `levels` are those of the lead, or their number.

        Returns
        -------
        display : DecisionBoundaryDisplay
            The picture; that of the test data is its `test_`.

        Raises
        ------
        ValueError
            If an argument is none of those described, or there are more than two
            features and none are chosen.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import DecisionBoundaryDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> display = DecisionBoundaryDisplay.from_estimator(
        ...     clf, X, y, features=(2, 3), held={0: 5.8, 1: 3.0}
        ... )
        >>> print(display.ax_.get_xlabel())
        feature 2
        feature 0 = 5.8, feature 1 = 3
        """
        check_is_fitted(estimator)
        plot_method = _method_for(plot_method, kwargs)
        _check_extent(grid_resolution, eps)
        if not (is_classifier(estimator) and hasattr(estimator, "classes_")):
            of_classifiers = {
                **{"y": y, "X_test": X_test, "y_test": y_test, "features": features},
                **{"held": held, "xlim": xlim, "ylim": ylim, "title": title},
                "first_layer": first_layer or None,
            }
            _refuse_for_others(estimator, of_classifiers)
            if multiclass_colors is not None:
                kwargs["multiclass_colors"] = multiclass_colors
            return super().from_estimator(
                estimator,
                X,
                grid_resolution=grid_resolution,
                eps=1.0 if eps is None else eps,
                plot_method="contourf" if plot_method == "image" else plot_method,
                response_method=response_method,
                class_of_interest=class_of_interest,
                xlabel=xlabel,
                ylabel=ylabel,
                ax=ax,
                **kwargs,
            )
        classes = _checked_classes(estimator, response_method, class_of_interest)
        if X_test is None and y_test is not None:
            raise ValueError(f"{NAME}: y_test needs X_test. Give both, or neither.")
        plane = make_plane(X, features, held)
        parts = [(X, y)] if X_test is None else [(X, y), (X_test, y_test)]
        points = [plane.coordinates(rows) for rows, _ in parts]
        xx0, xx1 = _grid(np.concatenate(points), grid_resolution, eps, xlim, ylim)
        rows = plane.rows(np.stack([xx0.ravel(), xx1.ravel()], axis=1))
        data = [
            _data(estimator, at, *part) for at, part in zip(points, parts, strict=True)
        ]
        predicted = data[0].get("y_pred")
        scores, method = scores_of(
            estimator, X, rows, response_method, classes, predicted
        )
        response, leads, confidence, quantity = answers_of(
            scores, method, response_method, classes, class_of_interest
        )

        def on_grid(values: np.ndarray) -> np.ndarray:
            return values.reshape(*xx0.shape, *values.shape[1:])

        units = first_layer_of(estimator, rows) if first_layer else None
        labels = plane.labels if hasattr(X, "columns") or features is not None else None
        shared: dict[str, Any] = {
            "xx0": xx0,
            "xx1": xx1,
            "response": on_grid(response),
            "n_classes": len(classes),
            # Of scores of all classes they are computed anew, to keep less.
            "leads": None if response.ndim == 2 else on_grid(leads),
            "confidence": on_grid(confidence),
            "classes": classes,
            "quantity": quantity,
            "units": None if units is None else on_grid(units),
            "note": plane.note,
            "multiclass_colors": multiclass_colors,
            "xlabel": xlabel if xlabel is not None or labels is None else labels[0],
            "ylabel": ylabel if ylabel is not None or labels is None else labels[1],
        }
        displays = [cls(**shared, **own) for own in data]
        if X_test is None:
            own = displays[0]._title("") if title is None else title
            return displays[0].plot(plot_method, ax, title=own, legend=legend, **kwargs)
        if ax is None:
            axes = new_panels(2, (5.5, 4.8))
        else:
            axes = given_panels(
                ax,
                [2],
                f"{NAME} needs two axes, for training and test data",
                "leave `ax` out, or give those of matplotlib.pyplot.subplots(1, 2)",
            )
        for display, on, prefix in zip(
            displays, axes, ("Train: ", "Test: "), strict=True
        ):
            own = display._title(prefix) if title is None else title
            display.plot(plot_method, on, title=own, legend=False, **kwargs)
        if legend:
            named = displays[0]._named() | displays[1]._named()
            _draw_legend(named, axes[1], outside=ax is None)
        displays[0].test_ = displays[1]
        return displays[0]

    @classmethod
    def animate(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        frames: int | Sequence[int] = 50,
        interval: float = 100,
        fit_params: Mapping[str, Any] | None = None,
        title: str | None = None,
        legend: bool = True,
        **kwargs: Any,
    ) -> FuncAnimation:
        """Train a classifier, and show how its regions form.

        Parameters
        ----------
        estimator : TorchBlobClassifier
            Also at the end of a Pipeline. A clone is trained.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Their classes.
        frames : int or sequence of int, default=50
            The number of pictures, which are spread evenly over `max_epochs`, or the
            epochs. 0 is the untrained network. Training that ends sooner has fewer of
            them. The last is always that which early stopping chose, or the last epoch.
        interval : float, default=100
            Milliseconds a picture, > 0.
        fit_params : mapping, default=None
            Further arguments of `fit`, such as `sample_weight`.
        title : str, default=None
            What is written before the number of the epoch.
        legend : bool, default=True
            Whether the classes are named.
        **kwargs
            As in :meth:`from_estimator`, except `ax`. With `X_test` there are two
            panels.

        Returns
        -------
        animation : matplotlib.animation.FuncAnimation
            Pictures are drawn when they are needed: by
            `animation.save("boundary.gif", "pillow")`, or by `animation.to_jshtml()` in
            a notebook.

        Raises
        ------
        ValueError
            As :meth:`from_estimator`; if the estimator is another; or if `frames` are
            no epochs of its training.

        Examples
        --------
        >>> from sklearn.datasets import make_moons
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import DecisionBoundaryDisplay
        >>> X, y = make_moons(200, noise=0.2, random_state=0)
        >>> clf = TorchBlobClassifier(lr=0.5, random_state=0, device="cpu")
        >>> animation = DecisionBoundaryDisplay.animate(clf, X, y, frames=[0, 10, 100])
        >>> len(animation.to_jshtml()) > 10_000
        True
        """
        import matplotlib.pyplot as plt
        from matplotlib.animation import FuncAnimation

        if "ax" in kwargs:
            raise ValueError(f"{NAME}.animate draws a figure of its own: leave out ax.")
        if not interval > 0:
            raise ValueError(
                f"{NAME}.animate: interval must be greater than 0. Got {interval}."
            )
        # Errors that many make should not wait for the training.
        _method_for(kwargs.get("plot_method"), kwargs)
        make_plane(X, kwargs.get("features"), kwargs.get("held"))
        training = RecordedTraining(estimator, X, y, frames, fit_params or {})
        n_panels = 1 if kwargs.get("X_test") is None else 2
        width = 6.4 if n_panels == 1 else 11
        figure = plt.figure(figsize=(width, 4.8), layout="constrained")
        named: dict[str, Any] = {}

        def draw(epoch: int) -> None:
            figure.clear()
            axes = figure.subplots(1, n_panels, sharex=True, sharey=True)
            display = cls.from_estimator(
                training.at(epoch), X, y, ax=axes, legend=False, **kwargs
            )
            when = f"{title}, epoch {epoch}" if title else f"epoch {epoch}"
            if n_panels == 1:
                axes.set_title(display._title(f"{when}: "))
            else:
                figure.suptitle(when[0].upper() + when[1:])
            # What was named stays so, lest the panels change their size.
            for shown in [display] if n_panels == 1 else [display, display.test_]:
                named.update(shown._named())
            if legend:
                _draw_legend(named, display.ax_, outside=True)

        try:
            draw(training.epochs[0])  # an error comes now, not with the first picture
        except Exception:
            plt.close(figure)
            raise
        return FuncAnimation(
            figure,
            draw,
            frames=training.epochs,
            init_func=lambda: None,
            interval=interval,
        )

    def plot(
        self,
        plot_method: str | None = None,
        ax: Axes | None = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
        *,
        title: str | None = None,
        legend: bool = True,
        borders: bool = True,
        **kwargs: Any,
    ) -> DecisionBoundaryDisplay:
        """Draw the picture, again if need be.

        Parameters
        ----------
        plot_method : {"image", "contourf", "contour", "pcolormesh"}, default=None
            As in :meth:`from_estimator`.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        xlabel, ylabel : str, default=None
            Labels of the axes, instead of the display's own.
        title : str, default=None
            Title. None is none.
        legend : bool, default=True
            Whether the classes are named, where there are data.
        borders : bool, default=True
            Whether lines are drawn between the regions.
        **kwargs
            As in :meth:`from_estimator`.

        Returns
        -------
        display : DecisionBoundaryDisplay
            This one.

        Raises
        ------
        ValueError
            If `plot_method` or `ax` is none of those described.

        Examples
        --------
        >>> from sklearn.datasets import make_moons
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import DecisionBoundaryDisplay
        >>> X, y = make_moons(200, noise=0.2, random_state=0)
        >>> clf = TorchBlobClassifier(lr=0.5, random_state=0, device="cpu").fit(X, y)
        >>> display = DecisionBoundaryDisplay.from_estimator(clf, X, y)
        >>> display = display.plot("contourf", levels=4, title="Moons")
        >>> display.ax_.get_title()
        'Moons'
        """
        import matplotlib.pyplot as plt

        plot_method = _method_for(plot_method, kwargs)
        if ax is not None and not hasattr(ax, "get_aspect"):
            raise ValueError(f"{NAME} needs one matplotlib Axes. Got {ax!r}.")
        leads = self._leads()
        rgb = np.empty((0, 3))
        if leads is not None:
            rgb = class_colors(self.multiclass_colors, leads.shape[-1])
        has_own_figure = ax is None
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        if leads is None:
            method = "contourf" if plot_method == "image" else plot_method
            self.n_classes = 2 if self.n_classes is None else self.n_classes
            return super().plot(method, ax, xlabel, ylabel, **kwargs)
        kwargs = {"zorder": -1} | kwargs
        inverted = ax.xaxis_inverted(), ax.yaxis_inverted()
        self.multiclass_colors_ = np.column_stack([rgb, np.ones(len(rgb))])
        by_value = {"cmap", "colors", "levels"}
        has_colors = self.response.ndim == 2 and by_value & kwargs.keys()
        if self.quantity is not None or has_colors:
            self.surface_ = self._paint_values(ax, plot_method, kwargs)
        else:
            self.surface_ = self._paint_regions(ax, plot_method, leads, rgb, kwargs)
        self.borders_ = []
        if borders:
            of_classes = [leads[..., k] for k in _winners(leads)]
            self.borders_ = self._zero_lines(ax, of_classes, "0.15", 1.2)
        if self.units is not None:
            of_units = list(np.moveaxis(self.units, -1, 0))
            self._zero_lines(ax, of_units, "0.35", 0.8, linestyles="dotted")
        self.points_ = self._draw_points(ax, rgb)
        if legend:
            _draw_legend(self._named(), ax, outside=has_own_figure)
        self._set_limits(ax, inverted)
        self._write(ax, xlabel, ylabel, title)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def plot_classes(self, axes: Any = None) -> DecisionBoundaryDisplay:
        """Draw a panel for each class, in its colour where its score is high.

        Parameters
        ----------
        axes : array-like of n_classes matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : DecisionBoundaryDisplay
            This one; `axes_` has its panels, and `ax_` is the first.

        Raises
        ------
        ValueError
            If what is shown has no classes, or there are not as many axes.

        Examples
        --------
        >>> from sklearn.datasets import make_moons
        >>> from torchblob import TorchBlobClassifier
        >>> from torchblob.inspection import DecisionBoundaryDisplay
        >>> X, y = make_moons(200, noise=0.2, random_state=0)
        >>> clf = TorchBlobClassifier(lr=0.5, random_state=0, device="cpu").fit(X, y)
        >>> display = DecisionBoundaryDisplay.from_estimator(clf, X, y).plot_classes()
        >>> [ax.get_title() for ax in display.axes_]
        ['0', '1']
        """
        leads = self._leads()
        if leads is None:
            raise ValueError(f"{NAME}: plot_classes needs the picture of a classifier.")
        n_classes = leads.shape[-1]
        if axes is None:
            self.axes_ = new_panels(n_classes, (3.2, 3))
        else:
            self.axes_ = given_panels(
                axes,
                [n_classes],
                f"{NAME}: plot_classes needs axes for each of {n_classes} classes",
                "leave `axes` out, or give as many",
            )
        rgb = class_colors(self.multiclass_colors, n_classes)
        scores = self.response if self.response.ndim == 3 else leads
        share = (scores - scores.min()) / max(np.ptp(scores), np.finfo(float).tiny)
        names = np.arange(n_classes) if self.classes is None else self.classes
        for k, ax in enumerate(self.axes_):
            inverted = ax.xaxis_inverted(), ax.yaxis_inverted()
            image = 1 - STRONGEST * _finer(share[..., k])[..., None] * (1 - rgb[k])
            self._show(ax, image, {"zorder": -1})
            self._zero_lines(ax, [leads[..., k]], "0.15", 1.2)
            self._draw_points(ax, rgb)
            self._set_limits(ax, inverted)
            self._write(ax, None, None, str(names[k]))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        return self

    def _leads(self) -> np.ndarray | None:
        """Return how far each class leads, where that is known."""
        if self.leads is None and self.response.ndim == 3:
            return leads_of(self.response)
        return self.leads

    def _named(self) -> dict[str, Any]:
        """Return what is drawn of the data, by name."""
        return {artist.get_label(): artist for artist in self.points_}

    def _title(self, prefix: str) -> str | None:
        """Return the accuracy on the data, where their classes are known."""
        if self.y is None:
            return prefix.removesuffix(": ") or None
        accuracy = np.mean(np.asarray(self.y) == np.asarray(self.y_pred))
        title = f"{prefix}accuracy {accuracy:.1%}"
        return title[0].upper() + title[1:]

    def _paint_regions(
        self,
        ax: Axes,
        method: str,
        leads: np.ndarray,
        rgb: np.ndarray,
        kwargs: dict[str, Any],
    ) -> Any:
        """Paint the region of each class in its colour."""
        for name in {"cmap", "colors"} & kwargs.keys():
            warnings.warn(
                f"'{name}' is ignored in favor of 'multiclass_colors' in the "
                "multiclass case.",
                stacklevel=3,
            )
            kwargs.pop(name)
        sure = self.confidence
        sure = np.ones(self.xx0.shape) if sure is None else sure
        if method == "image":
            winners = np.array(_winners(leads))
            fine = winners[_finer(leads[..., winners]).argmax(-1)]
            return self._show(ax, _tint(rgb[fine], _finer(sure)), kwargs)
        cells = _tint(rgb[leads.argmax(-1)], sure)
        if method == "pcolormesh":
            return ax.pcolormesh(self.xx0, self.xx1, cells, **kwargs)
        artists = []
        if method == "contourf":
            # Where three classes meet, the areas of two leave a gap.
            under = {
                name: kwargs[name] for name in ("alpha", "zorder") if name in kwargs
            }
            artists.append(ax.pcolormesh(self.xx0, self.xx1, cells, **under))
        # Bands, unless the classifier is as sure everywhere.
        wanted = kwargs.pop("levels", 7)
        n_bands = (wanted if np.ndim(wanted) == 0 else 7) if np.ptp(sure) > 0 else 1
        for k in _winners(leads):
            most = leads[..., k].max()
            if most <= 0:  # it only has the first of equal scores
                continue
            levels = (
                np.linspace(0, most, n_bands + 1) if np.ndim(wanted) == 0 else wanted
            )
            shades = np.linspace(0, 1, len(levels)) if n_bands > 1 else [1.0, 1.0]
            colors = np.broadcast_to(rgb[k], (len(shades), 3))
            if method == "contourf":
                colors = _tint(colors, np.asarray(shades))
            own = {"levels": levels, "colors": colors, **kwargs}
            draw = getattr(ax, method)
            artists.append(draw(self.xx0, self.xx1, leads[..., k], **own))
        return artists

    def _paint_values(self, ax: Axes, method: str, kwargs: dict[str, Any]) -> Any:
        """Paint the response by its values, beside a bar of colours."""
        if "colors" not in kwargs:
            kwargs = {"cmap": "cividis"} | kwargs
        if method == "image":
            artist = self._show(ax, _finer(self.response), kwargs)
        else:
            artist = getattr(ax, method)(self.xx0, self.xx1, self.response, **kwargs)
        if self.quantity is not None:
            ax.figure.colorbar(artist, ax=ax, label=self.quantity)
        return artist

    def _show(self, ax: Axes, image: np.ndarray, kwargs: dict[str, Any]) -> Any:
        """Draw an image whose outermost pixels are centred on the outermost points."""
        x, y = self.xx0[0], self.xx1[:, 0]
        dx, dy = (
            (side[-1] - side[0]) / (n - 1) / 2
            for side, n in ((x, image.shape[1]), (y, image.shape[0]))
        )
        extent = (x[0] - dx, x[-1] + dx, y[0] - dy, y[-1] + dy)
        own = {"aspect": ax.get_aspect(), "interpolation": "nearest"} | kwargs
        return ax.imshow(image, origin="lower", extent=extent, **own)

    def _zero_lines(
        self,
        ax: Axes,
        fields: Sequence[np.ndarray],
        color: str,
        width: float,
        **kwargs: Any,
    ) -> list[Any]:
        """Draw where fields are zero."""
        return [
            ax.contour(
                self.xx0,
                self.xx1,
                field,
                levels=[0],
                colors=color,
                linewidths=width,
                zorder=0,
                **kwargs,
            )
            for field in fields
            if field.min() < 0 < field.max()
        ]

    def _draw_points(self, ax: Axes, rgb: np.ndarray) -> list[Any]:
        """Draw the data of each class, and a ring around what is misclassified."""
        artists: list[Any] = []
        if self.points is None:
            return artists
        classes = np.arange(len(rgb)) if self.classes is None else self.classes
        if self.y is None:
            ax.scatter(*self.points.T, color="0.4", **POINT)
            return artists
        y = np.asarray(self.y)
        is_other = ~np.isin(y, classes)
        if is_other.any():
            others = self.points[is_other].T
            artists.append(ax.scatter(*others, color="0.4", label="other", **POINT))
        for name, color in zip(classes, rgb, strict=True):
            of_class = self.points[y == name]
            artists.append(
                ax.scatter(*of_class.T, color=[color], label=str(name), **POINT)
            )
        if self.y_pred is not None:
            wrong = self.points[y != np.asarray(self.y_pred)]
            if len(wrong):
                artists.append(
                    ax.scatter(
                        wrong[:, 0],
                        wrong[:, 1],
                        s=36,
                        facecolors="none",
                        edgecolors="black",
                        linewidths=0.9,
                        label="misclassified",
                        zorder=3,
                    )
                )
        return artists

    def _set_limits(self, ax: Axes, inverted: tuple[bool, bool]) -> None:
        """Let the axes end where the grid does, in the direction that they had."""
        left, bottom = float(self.xx0.min()), float(self.xx1.min())
        right, top = float(self.xx0.max()), float(self.xx1.max())
        ax.set_xlim((right, left) if inverted[0] else (left, right))
        ax.set_ylim((top, bottom) if inverted[1] else (bottom, top))

    def _write(
        self, ax: Axes, xlabel: str | None, ylabel: str | None, title: str | None
    ) -> None:
        """Write the labels and the title."""
        if xlabel is not None or not ax.get_xlabel():
            own = self.xlabel or ""
            if self.note:
                own = f"{own}\n{self.note}" if own else self.note
            ax.set_xlabel(own if xlabel is None else xlabel)
        if ylabel is not None or not ax.get_ylabel():
            ax.set_ylabel((self.ylabel or "") if ylabel is None else ylabel)
        if title is not None:
            ax.set_title(title)


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(
            f"{NAME}: {what} must be one of {', '.join(choices)}. Got {value} instead."
        )


def _check_extent(grid_resolution: int, eps: float | None) -> None:
    if not grid_resolution > 1:
        raise ValueError(
            f"{NAME}: grid_resolution must be greater than 1. Got "
            f"{grid_resolution} instead."
        )
    if eps is not None and not eps >= 0:
        raise ValueError(
            f"{NAME}: eps must be greater than or equal to 0. Got {eps} instead."
        )


def _refuse_for_others(estimator: Any, of_classifiers: Mapping[str, Any]) -> None:
    """Raise an error if there are arguments that only classifiers can have."""
    given = [name for name, value in of_classifiers.items() if value is not None]
    if given:
        raise ValueError(
            f"{NAME} draws {type(estimator).__name__}, which is no classifier, "
            f"as scikit-learn does, without {', '.join(given)}."
        )


def _checked_classes(estimator: Any, response: str, of_interest: Any) -> np.ndarray:
    """Return the classes of a classifier, if they can be drawn as is wished."""
    _check_choice("response_method", response, RESPONSES + OF_PROBABILITIES)
    if np.ndim(estimator.classes_[0]):
        raise ValueError(
            f"{NAME}: Multi-label and multi-output multi-class classifiers are not "
            "supported. Draw each output by itself."
        )
    classes = np.asarray(estimator.classes_)
    if len(classes) < 2:
        raise ValueError(
            f"{NAME} needs a classifier of two classes or more. Got one of "
            f"{classes.tolist()[0]!r} alone."
        )
    if of_interest is not None and response in OF_PROBABILITIES:
        raise ValueError(
            f"{NAME}: {response} is of all classes. Leave class_of_interest "
            "out, or choose another response_method."
        )
    if of_interest is not None and of_interest not in classes:
        raise ValueError(
            f"{NAME}: class_of_interest={of_interest!r} is not a valid "
            f"label: It should be one of {classes.tolist()}."
        )
    return classes


def _grid(
    points: np.ndarray,
    n: int,
    eps: float | None,
    xlim: tuple[float, float] | None,
    ylim: tuple[float, float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid around points, or within limits."""
    sides = []
    for values, limits in zip(points.T, (xlim, ylim), strict=True):
        low, high = np.nanmin(values), np.nanmax(values)
        margin = eps
        if margin is None:
            margin = 0.05 * (high - low) or 1.0
        low, high = (low - margin, high + margin) if limits is None else limits
        sides.append(np.linspace(low, high, n))
    xx0, xx1 = np.meshgrid(*sides)
    return xx0, xx1


def _method_for(method: str | None, kwargs: Mapping[str, Any]) -> str:
    """Return the plot method, which the arguments of the artist may imply."""
    if method is None:
        return "contourf" if OF_CONTOURS & kwargs.keys() else "image"
    _check_choice("plot_method", method, METHODS)
    return method


def _data(estimator: Any, points: np.ndarray, X: Any, y: Any) -> dict[str, Any]:
    """Return the data that a picture shows."""
    if y is None:
        return {}
    y = as_array(y).reshape(-1)
    if len(y) != len(points):
        raise ValueError(
            f"{NAME} needs a class for each row. Got {len(points)} rows of X and "
            f"{len(y)} classes."
        )
    return {"points": points, "y": y, "y_pred": as_array(estimator.predict(X))}


def _draw_legend(named: dict[str, Any], ax: Axes, *, outside: bool) -> None:
    """Name what is drawn of the data, on the axes or beside all of them."""
    columns = math.ceil(len(named) / 16)
    if named and outside:
        ax.figure.legend(
            named.values(), named.keys(), loc="outside right upper", ncols=columns
        )
    elif named:
        ax.legend(named.values(), named.keys(), ncols=columns)


def _winners(leads: np.ndarray) -> list[int]:
    """Return the classes that lead somewhere."""
    return np.unique(leads.argmax(-1)).tolist()


def _finer(values: np.ndarray) -> np.ndarray:
    """Interpolate values on a grid, (n, m, ...), linearly to one of enough pixels."""
    for axis in (0, 1):
        n = values.shape[axis]
        if n >= PIXELS:
            continue
        at = np.linspace(0, n - 1, PIXELS)
        low = np.minimum(at.astype(int), n - 2)
        share = (at - low).reshape(-1, *[1] * (values.ndim - 1 - axis))
        below, above = (np.take(values, i, axis) for i in (low, low + 1))
        values = below * (1 - share) + above * share
    return values


def _tint(rgb: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return colours, (..., 3), made paler where the strength, 0 to 1, is less."""
    share = (PALEST + (STRONGEST - PALEST) * np.asarray(strength))[..., None]
    return 1 - share * (1 - rgb)
