"""The boundary as it forms: which epochs are shown, and what of them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.animation import PillowWriter
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

animate = DecisionBoundaryDisplay.animate


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10, "lr": 0.5}
    defaults["n_iter_no_change"] = params.get("max_epochs", 10)
    return TorchBlobClassifier(**defaults | params)


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(160, centers=4, cluster_std=1.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


class Spy(PillowWriter):
    """Notes what each picture says and paints."""

    def setup(self, fig, *args, **kwargs):
        super().setup(fig, *args, **kwargs)
        self.titles, self.images = [], []

    def grab_frame(self, **kwargs):
        super().grab_frame(**kwargs)
        panels = [ax for ax in self.fig.axes if ax.images]
        self.titles.append(self.fig.get_suptitle() or panels[0].get_title())
        self.images.append(np.array(panels[0].images[0].get_array()))


def saved(animation, tmp_path):
    spy = Spy()
    animation.save(tmp_path / "boundary.gif", spy)
    return spy


def test_pictures_show_the_network_after_each_of_their_epochs(data, tmp_path):
    X, y = data
    spy = saved(animate(make(), X, y, frames=[0, 4, 10]), tmp_path)
    with Image.open(tmp_path / "boundary.gif") as file:
        assert file.n_frames == 3
    for title, image, epoch in zip(spy.titles, spy.images, (0, 4, 10), strict=True):
        assert title.startswith(f"Epoch {epoch}: accuracy ")
        if epoch:
            # With a constant rate, the same as a training that ends there.
            fitted = make(max_epochs=epoch).fit(X, y)
            alone = DecisionBoundaryDisplay.from_estimator(fitted, X, y)
            np.testing.assert_allclose(image, alone.surface_.get_array(), atol=1e-5)
            assert title.endswith(f"{fitted.score(X, y):.1%}")


def test_a_number_of_pictures_is_spread_over_all_epochs(data, tmp_path):
    spy = saved(animate(make(), *data, frames=3, grid_resolution=20), tmp_path)
    assert [title.split(":")[0] for title in spy.titles] == [
        "Epoch 0",
        "Epoch 5",
        "Epoch 10",
    ]


def test_an_animation_that_was_saved_shows_the_same_when_it_is_saved_again(
    data, tmp_path
):
    animation = animate(make(), *data, frames=[1, 10], grid_resolution=20)
    first, second = (saved(animation, tmp_path).images for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(*first)


def test_the_estimator_itself_is_not_trained(data, tmp_path):
    clf = make()
    saved(animate(clf, *data, frames=2, grid_resolution=20), tmp_path)
    assert not hasattr(clf, "net_")
    assert clf.callbacks is None


def test_early_stopping_ends_with_the_weights_that_it_keeps(data, tmp_path):
    X, y = data
    noisy = np.where(np.arange(len(y)) % 4, y, (y + 1) % 4)
    clf = make(
        early_stopping=True, max_epochs=200, n_iter_no_change=5, optimizer="adam"
    )
    fitted = clf.fit(X, noisy)
    assert fitted.best_epoch_ < fitted.n_iter_
    spy = saved(animate(clf, X, noisy, frames=[0, 200], grid_resolution=20), tmp_path)
    assert spy.titles[-1].startswith(f"Epoch {fitted.best_epoch_}: ")
    assert spy.titles[-1].endswith(f"{fitted.score(X, noisy):.1%}")


def test_test_data_have_a_panel_and_pipelines_of_frames_are_trained(data, tmp_path):
    X, y = pd.DataFrame(data[0], columns=["length", "width"]), data[1]
    model = make_pipeline(StandardScaler(), make())
    animation = animate(
        model,
        X[::2],
        y[::2],
        X_test=X[1::2],
        y_test=y[1::2],
        frames=[0, 10],
        grid_resolution=20,
        title="blobs",
        fit_params={"torchblobclassifier__sample_weight": np.ones(len(X[::2]))},
    )
    spy = saved(animation, tmp_path)
    assert spy.titles == ["Blobs, epoch 0", "Blobs, epoch 10"]
    left, right = spy.fig.axes
    assert left.get_title().startswith("Train: ")
    assert right.get_title().startswith("Test: ")
    assert left.get_xlabel() == "length"


def test_the_legend_keeps_its_names_when_nothing_is_misclassified(data, tmp_path):
    corners = [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    X, y = make_blobs(80, centers=corners, cluster_std=0.1, random_state=0)
    clf = make(max_epochs=40, optimizer="adam", lr=0.1)
    animation = animate(clf, X, y, frames=2, grid_resolution=20)
    spy = saved(animation, tmp_path)
    assert spy.titles[-1] == "Epoch 40: accuracy 100.0%"
    (legend,) = spy.fig.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["0", "1", "2", "3", "misclassified"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"frames": 1}, r"frames must be a number of pictures, 2 or more.* Got 1"),
        ({"frames": [0, 11]}, r"to max_epochs=10\. Got \[0, 11\]"),
        ({"frames": 2.5}, r"frames must be a number .* Got 2\.5"),
        ({"ax": None}, "leave out ax"),
        ({"interval": 0}, "interval must be greater than 0"),
        ({"plot_method": "paint"}, "plot_method must be one of image"),
        ({"features": (0, 5)}, "there is no feature 5"),
    ],
)
def test_what_can_not_be_shown_is_refused_with_a_reason(data, params, message):
    with pytest.raises(ValueError, match=message):
        animate(make(), *data, **params)


def test_weights_that_a_callback_brings_back_in_the_end_are_not_taken_for_the_last(
    data, tmp_path
):
    stop = EarlyStopping(monitor="train_loss", patience=2, load_best=True)
    clf = make(lr=5.0, max_epochs=30, random_state=3, callbacks=[stop])
    fitted = clone(clf).fit(*data)
    n = fitted.n_iter_
    assert n < 30
    spy = saved(animate(clf, *data, frames=[0, n], grid_resolution=20), tmp_path)
    alone = clf.set_params(callbacks=None, max_epochs=n, n_iter_no_change=n).fit(*data)
    assert spy.titles[-1] == f"Epoch {n}: accuracy {alone.score(*data):.1%}"


def test_other_classifiers_are_refused(data):
    with pytest.raises(ValueError, match=r"needs a TorchBlobClassifier.* Got Logistic"):
        animate(LogisticRegression(), *data)
