"""Pictures of how a training went."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchblob import TorchBlobClassifier
from torchblob.inspection import TrainingCurveDisplay

draw = TrainingCurveDisplay.from_estimator


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


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
