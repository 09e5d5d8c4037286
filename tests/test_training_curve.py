"""Pictures of how a training went."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchblob import TorchBlobClassifier
from torchblob.inspection import TrainingCurveDisplay

draw = TrainingCurveDisplay.from_estimator


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params)


@pytest.fixture(scope="module")
def stopped(small):
    X, y = small
    noisy = np.where(np.arange(len(y)) % 3, y, (y + 1) % 3)  # there is noise to learn
    clf = make(
        hidden_units=64, optimizer="adam", early_stopping=True, max_epochs=400, lr=0.03
    )
    return clf.fit(X, noisy)


def curves_of(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_loss_and_accuracy_are_drawn_by_epoch(stopped):
    display = draw(stopped)
    history = stopped.history_
    for ax, what in zip(display.axes_, ("loss", "acc"), strict=True):
        curves = curves_of(ax)
        for part, key in (("training", "train"), ("validation", "valid")):
            expected = [(row["epoch"], row[f"{key}_{what}"]) for row in history]
            np.testing.assert_allclose(curves[part], expected)
        assert ax.get_xlabel() == "epoch"
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss (nats)", "accuracy"]
    assert len(display.lines_) == 4


def test_the_epoch_that_early_stopping_chose_is_marked(stopped):
    losses = [row["valid_loss"] for row in stopped.history_]
    best = int(np.argmin(losses))
    assert stopped.best_epoch_ == best + 1 < stopped.n_iter_
    curves = curves_of(draw(stopped).axes_[0])
    marked = curves[f"weights of epoch {best + 1}"]
    np.testing.assert_allclose(marked, [(best + 1, losses[best])])


def test_the_chosen_epoch_counts_the_epochs_of_earlier_fits(small):
    clf = make(early_stopping=True, warm_start=True, max_epochs=3).fit(*small)
    before = clf.n_iter_
    clf.fit(*small)
    assert clf.best_epoch_ > before
    assert clf.partial_fit(*small).best_epoch_ is None


def test_without_validation_rows_there_is_the_training_loss(small):
    clf = make().fit(*small)
    assert clf.best_epoch_ is None
    (ax,) = draw(clf).axes_
    assert list(curves_of(ax)) == ["training"]


def test_several_classifiers_share_a_picture_in_colours_of_their_own(small, stopped):
    display = draw(stopped, name="first")
    X, y = small
    other = make(lr=0.01).fit(X, y, X_val=X, y_val=y)
    second = draw(other, name="second", ax=display.axes_)
    assert second.axes_ == display.axes_
    labels = curves_of(display.ax_)
    assert {"first, training", "second, training", "second, validation"} <= set(labels)
    colors = {line.get_color() for line in display.lines_[:2]}
    others = {line.get_color() for line in second.lines_[:2]}
    assert len(colors) == len(others) == 1
    assert colors != others


def test_arguments_of_lines_are_passed_on(stopped):
    display = draw(stopped, color="red", linewidth=3)
    assert {line.get_color() for line in display.lines_} == {"red"}
    assert {line.get_linewidth() for line in display.lines_} == {3}


def test_a_network_is_found_in_a_pipeline_and_in_a_search(small):
    model = make_pipeline(StandardScaler(), make()).fit(*small)
    search = GridSearchCV(model, {"torchblobclassifier__lr": [0.1]}, cv=2).fit(*small)
    for estimator in (model, search):
        assert len(draw(estimator).lines_[0].get_xdata()) == 10


def test_a_picture_can_be_drawn_again_on_one_axis(stopped):
    display = draw(stopped)
    _, ax = plt.subplots()
    assert display.plot(ax, name="again") is display
    assert display.axes_ == [ax]
    assert "again, training" in curves_of(ax)
    assert ax.get_ylabel() == "loss (nats)"


def test_an_error_says_what_is_needed_and_what_was_given(small, stopped):
    with pytest.raises(NotFittedError):
        draw(make())
    with pytest.raises(ValueError, match=r"TrainingCurveDisplay needs a fitted Torch"):
        draw(LogisticRegression().fit(*small))
    _, axes = plt.subplots(3)
    with pytest.raises(ValueError, match=r"one or two axes.* Got 3"):
        draw(stopped, ax=axes)


def test_a_single_epoch_is_a_point(small):
    (line,) = draw(make(max_epochs=1).fit(*small)).lines_
    assert line.get_marker() == "o"


def test_short_names_of_arguments_of_lines_are_taken(stopped):
    assert {line.get_linestyle() for line in draw(stopped, ls=":").lines_} == {":"}


def test_axes_for_which_there_are_no_curves_stay_empty(small):
    _, axes = plt.subplots(1, 2)
    display = draw(make().fit(*small), ax=axes)
    assert len(display.lines_) == 1
    assert axes[1].get_legend() is None


curves_of_search = TrainingCurveDisplay.from_search


@pytest.fixture(scope="module")
def grid_search(small):
    clf = make(n_iter_no_change=10)
    grid = {"hidden_units": [16, 2, 4], "lr": [0.1, 0.3]}
    return GridSearchCV(clf, grid, cv=3).fit(*small)


def test_candidates_train_as_the_folds_of_the_search_did(small, grid_search):
    X, y = small
    display = curves_of_search(grid_search, X, y, param="hidden_units")
    names = [candidate.name for candidate in display.candidates_]
    assert names == ["hidden_units=2", "hidden_units=4", "hidden_units=16"]
    best = grid_search.best_params_
    assert display.name == f"hidden_units={best['hidden_units']}"
    losses = []
    for rows, others in StratifiedKFold(3).split(X, y):
        clf = clone(grid_search.estimator).set_params(**best)
        clf.fit(X[rows], y[rows], X_val=X[others], y_val=y[others])
        losses.append([row["valid_loss"] for row in clf.history_])
    np.testing.assert_allclose(display.valid_loss, np.mean(losses, 0), rtol=1e-4)
    # Of the last epoch it is the score in cross-validation.
    score = grid_search.best_score_
    assert display.valid_acc[-1] == pytest.approx(score)


def test_candidates_share_axes_and_a_legend_from_dark_to_light(small, grid_search):
    display = curves_of_search(grid_search, *small, param="lr")
    first, second = display.candidates_
    assert first.axes_ == second.axes_
    brightness = [sum(d.lines_[0].get_color()[:3]) for d in (first, second)]
    assert brightness[0] < brightness[1]
    (legend,) = display.figure_.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["lr=0.1", "lr=0.3", "training", "validation"]
    assert all(ax.get_legend() is None for ax in display.axes_)


def test_axes_of_a_search_can_be_given(small, grid_search):
    _, ax = plt.subplots()
    display = curves_of_search(grid_search, *small, param="lr", ax=ax, linewidth=3)
    assert display.axes_ == [ax]
    assert len(ax.get_legend().get_texts()) == 4
    assert {line.get_linewidth() for line in ax.get_lines()} == {3}


def test_a_search_over_a_pipeline_of_frames_transforms_the_rows_of_each_fold(small):
    X, y = pd.DataFrame(small[0]).add_prefix("x"), small[1]
    model = make_pipeline(StandardScaler(), make(n_iter_no_change=10, lr=0.3))
    grid = {"torchblobclassifier__activation": ["tanh", "relu"]}
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    display = curves_of_search(search, X, list(y))
    assert [d.name for d in display.candidates_] == [
        "activation=tanh",
        "activation=relu",
    ]
    assert display.valid_acc[-1] == pytest.approx(search.best_score_)


def test_a_search_at_random_shows_all_its_candidates(small):
    space = {"lr": [0.1, 0.3], "hidden_units": [2, 4, 8]}
    search = RandomizedSearchCV(
        make(n_iter_no_change=10), space, n_iter=3, cv=2, random_state=0
    ).fit(*small)
    tried = [(p["lr"], p["hidden_units"]) for p in search.cv_results_["params"]]
    assert sorted(tried) == [(0.1, 4), (0.3, 2), (0.3, 8)]  # none differ in lr alone
    display = curves_of_search(search, *small, param="lr")
    names = [candidate.name for candidate in display.candidates_]
    assert sorted(names) == [f"lr={lr}, hidden_units={n}" for lr, n in sorted(tried)]
    best = search.best_params_
    assert display.name == f"lr={best['lr']}, hidden_units={best['hidden_units']}"
    assert display.valid_acc[-1] == pytest.approx(search.best_score_)


def test_what_one_of_several_grids_leaves_out_is_as_the_estimator_has_it(small):
    grids = [{"lr": [0.3, 0.2]}, {"hidden_units": [2, 4]}]
    search = GridSearchCV(make(lr=0.3, n_iter_no_change=10), grids, cv=2).fit(*small)
    search.best_params_ = {"lr": 0.3}
    for param, expected in (
        ("hidden_units", ["hidden_units=2", "hidden_units=4", "hidden_units=8"]),
        ("lr", ["lr=0.2", "lr=0.3"]),
    ):
        display = curves_of_search(search, *small, param=param)
        assert [candidate.name for candidate in display.candidates_] == expected
        assert display.name == expected[-1]


def test_values_that_look_alike_or_are_arrays_are_told_apart(small):
    clf = make(n_iter_no_change=10, lr=0.3)
    for grid in ({"lr": [0.30001, 0.30002]}, {"hidden_units": [np.array([4]), (2,)]}):
        search = GridSearchCV(clf, grid, cv=2).fit(*small)
        names = [c.name for c in curves_of_search(search, *small).candidates_]
        assert len(set(names)) == 2


def test_names_are_exact_where_all_else_does_not_tell_candidates_apart(small):
    grids = [
        {"lr": [0.30001, 0.30002], "hidden_units": [2]},
        {"lr": [0.30001], "hidden_units": [4]},
    ]
    search = GridSearchCV(make(n_iter_no_change=10), grids, cv=2).fit(*small)
    search.best_params_ = {"lr": 0.30001, "hidden_units": 4}  # none differ in lr alone
    display = curves_of_search(search, *small, param="lr")
    assert [candidate.name for candidate in display.candidates_] == [
        "lr=0.30001, hidden_units=2",
        "lr=0.30001, hidden_units=4",
        "lr=0.30002, hidden_units=2",
    ]


def test_a_step_that_can_not_be_fitted_leaves_its_candidate_out(small):
    model = make_pipeline(PCA(), make(n_iter_no_change=10))
    with pytest.warns((FitFailedWarning, UserWarning)):
        search = GridSearchCV(model, {"pca__n_components": [2, 9]}, cv=2).fit(*small)
    with pytest.warns(UserWarning, match="leaves out n_components=9"):
        display = curves_of_search(search, *small)
    assert display.name == "n_components=2"


def test_rows_of_a_class_that_a_fold_does_not_train_on_are_not_validated(small):
    X, y = small
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    search = GridSearchCV(make(n_iter_no_change=10), {"lr": [0.1, 0.3]}, cv=KFold(3))
    display = curves_of_search(search.fit(X, y), X, y)
    assert display.valid_loss is None
    assert len(display.train_loss) == 10


def test_the_legend_of_a_search_keeps_what_was_drawn_before(small, grid_search):
    first = draw(make().fit(*small, X_val=small[0], y_val=small[1]), name="mine")
    curves_of_search(grid_search, *small, param="lr", ax=first.axes_, c="red")
    names = [text.get_text() for text in first.axes_[1].get_legend().get_texts()]
    assert names == [
        *("mine, training", "mine, validation"),
        *("lr=0.1", "lr=0.3", "training", "validation"),
    ]


def test_with_early_stopping_curves_go_as_far_as_all_folds(small):
    clf = make(early_stopping=True, max_epochs=300, n_iter_no_change=2, tol=0.001)
    search = GridSearchCV(clf, {"lr": [0.4, 0.8]}, cv=3).fit(*small)
    display = curves_of_search(search, *small)
    assert len(display.epochs) == len(display.valid_loss) < 300


def test_a_search_that_has_no_curves_is_refused(small, grid_search):
    with pytest.raises(ValueError, match=r"param= one of hidden_units, lr\. Got None"):
        curves_of_search(grid_search, *small)
    with pytest.raises(ValueError, match=r"Got 'units'"):
        curves_of_search(grid_search, *small, param="units")
    other = GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(*small)
    with pytest.raises(ValueError, match="needs a search of a TorchBlobClassifier"):
        curves_of_search(other, *small)
    with pytest.raises(NotFittedError):
        curves_of_search(clone(grid_search), *small, param="lr")
    with pytest.raises(ValueError, match="needs a search, such as a fitted Grid"):
        curves_of_search(grid_search.best_estimator_, *small)


def test_a_candidate_that_can_not_be_trained_is_left_out_with_a_warning(small):
    clf = make(dtype="float32", n_iter_no_change=10)
    X, y = 1e3 * small[0], small[1]
    with pytest.warns():  # of fits that failed, and of poor ones
        search = GridSearchCV(clf, {"lr": [1e-7, 1e38]}, cv=2).fit(X, y)
    with pytest.warns(UserWarning, match=r"leaves out lr=1e\+38, .* Lower lr"):
        display = curves_of_search(search, X, y)
    assert [candidate.name for candidate in display.candidates_] == ["lr=1e-07"]
    search.cv_results_["params"] = [{"lr": 1e38}, {"lr": 2e38}]
    with pytest.raises(ValueError, match="Lower lr"):
        curves_of_search(search, X, y)


@pytest.mark.parametrize("steps", [[StandardScaler()], []], ids=["scaler", "no step"])
def test_folds_of_groups_and_pipelines_in_pipelines_are_followed(small, steps):
    X, y = small
    groups = np.arange(len(y)) % 4
    model = make_pipeline(StandardScaler(), make_pipeline(*steps, make()))
    grid = {"pipeline__torchblobclassifier__lr": [0.1, 0.3]}
    search = GridSearchCV(model, grid, cv=GroupKFold(4)).fit(X, y, groups=groups)
    display = curves_of_search(search, X, y, groups=groups)
    assert display.valid_acc[-1] == pytest.approx(search.best_score_)
    search.cv = iter([])
    with pytest.raises(ValueError, match="Give it a list instead of an iterator"):
        curves_of_search(search, X, y)
