"""Decision boundaries: what is painted, written and refused."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from matplotlib.colors import to_rgba
from scipy import sparse
from sklearn import inspection
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine, make_blobs
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.fixes import parse_version

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay
from torchblob.inspection._colors import _seen, class_colors, distinct_colors
from torchblob.inspection._responses import leads_of

draw = DecisionBoundaryDisplay.from_estimator


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 30}
    return TorchBlobClassifier(n_iter_no_change=30, **defaults | params)


@pytest.fixture(scope="module")
def blobs_of_animals():
    X, y = make_blobs(120, centers=4, cluster_std=2.0, random_state=2)
    return X, np.array(["ant", "bee", "cat", "dog"])[y]


@pytest.fixture(scope="module")
def clf(blobs_of_animals):
    return make(lr=0.5).fit(*blobs_of_animals)


class Planes(ClassifierMixin, BaseEstimator):
    """A classifier whose scores are linear, and whose best and worst are neighbours."""

    def __init__(self, answer="predict_proba"):
        self.answer = answer

    def fit(self, X, y):
        self.classes_ = np.arange(4)
        return self

    def decision_function(self, X):
        # 0 leads at the left and 3 at the right; 1 and 2 nowhere.
        return np.stack([-X[:, 0], 0 * X[:, 0] - 30, 0 * X[:, 0] - 30, X[:, 0]], 1)

    def predict_proba(self, X):
        odds = np.exp(self.decision_function(X))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X):
        return self.decision_function(X).argmax(1)


def pixels(display, method, **params):
    """Return the painted pixels of a picture without lines, (height, width, 3)."""
    figure = plt.figure(figsize=(3, 3), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    display.plot(method, ax, borders=False, **params)
    ax.axis("off")
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def strength(painted, color):
    """Return how much of a colour pixels have, and how far they are from its tints."""
    away = 1 - np.asarray(color)
    share = (1 - painted) @ away / (away @ away)
    return share, np.abs(1 - painted - share[..., None] * away).max(-1)


@pytest.mark.parametrize("response", ["predict_proba", "decision_function", "predict"])
@pytest.mark.parametrize("method", ["image", "contourf", "pcolormesh"])
def test_no_other_class_is_painted_between_two(method, response):
    X = np.array([[-3.0, -1.0], [3.0, 1.0]])
    display = draw(
        Planes().fit(X, None), X, response_method=response, grid_resolution=40
    )
    painted = pixels(display, method)
    left, right = painted[:, :140], painted[:, 160:]
    for part, k in ((left, 0), (right, 3)):
        share, off = strength(part, display.multiclass_colors_[k, :3])
        assert off.max() < 0.02
        assert share.min() > 0.05
    # Nor where they meet: each pixel is a tint of one of the two.
    offs = [strength(painted, display.multiclass_colors_[k, :3]) for k in (0, 3)]
    assert np.minimum(offs[0][1], offs[1][1]).max() < 0.02
    assert np.minimum(offs[0][0], offs[1][0]).min() > 0.05


@pytest.mark.parametrize("method", ["image", "contourf", "pcolormesh"])
def test_regions_have_no_seams_where_three_classes_meet(clf, blobs_of_animals, method):
    display = draw(clf, blobs_of_animals[0], response_method="predict")
    painted = pixels(display, method)
    colors = display.multiclass_colors_[:, :3]
    shares, offs = zip(*(strength(painted, color) for color in colors), strict=True)
    nearest = np.argmin(offs, axis=0)
    assert np.min(offs, axis=0).max() < 0.02
    # Nothing is white: each pixel has the full tint of a class.
    assert np.take_along_axis(np.stack(shares), nearest[None], 0).min() > 0.5


def test_borders_lie_where_two_classes_have_the_same_score():
    X = np.array([[-3.0, -1.0], [2.0, 1.0]])
    display = draw(Planes().fit(X, None), X, response_method="decision_function")
    (border, other) = display.borders_
    for line in (border, other):
        (path,) = line.get_paths()
        np.testing.assert_allclose(path.vertices[:, 0], 0, atol=1e-9)


def test_regions_are_paler_where_the_classifier_is_less_sure():
    X = np.array([[-3.0, -1.0], [3.0, 1.0]])
    display = draw(Planes().fit(X, None), X)
    painted = pixels(display, "image")[150]
    share, _ = strength(painted, display.multiclass_colors_[3, :3])
    assert share[152] < 0.35 < 0.55 < share[295]
    assert (np.diff(share[155:]) > -0.01).all()


def test_the_data_have_the_colours_of_their_regions(clf, blobs_of_animals):
    X, y = blobs_of_animals
    display = draw(clf, X, y)
    for k, name in enumerate(clf.classes_):
        artist = display.points_[k]
        np.testing.assert_array_equal(artist.get_offsets(), X[y == name])
        color = display.multiclass_colors_[k]
        np.testing.assert_allclose(artist.get_facecolors()[0], color)
    (legend,) = display.figure_.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["ant", "bee", "cat", "dog", "misclassified"]


def test_what_is_misclassified_is_marked(clf, blobs_of_animals):
    X, y = blobs_of_animals
    wrong = clf.predict(X) != y
    assert 0 < wrong.sum() < len(y)
    rings = draw(clf, X, y).points_[-1]
    np.testing.assert_array_equal(rings.get_offsets(), X[wrong])
    assert len(rings.get_facecolors()) == 0


@pytest.mark.parametrize("kind", [torch.tensor, sparse.csr_array, np.ndarray.tolist])
def test_data_come_in_the_kinds_that_a_fit_takes(blobs_of_animals, kind):
    X, names = blobs_of_animals
    y = np.unique(names, return_inverse=True)[1]
    given = torch.tensor(y) if kind is torch.tensor else y
    clf = make(lr=0.5).fit(kind(X), given)
    display = draw(clf, kind(X), given)
    points = np.concatenate([artist.get_offsets() for artist in display.points_[:4]])
    np.testing.assert_allclose(points, X[np.argsort(y, kind="stable")])


def test_the_title_is_the_accuracy(clf, blobs_of_animals):
    X, y = blobs_of_animals
    expected = f"Accuracy {clf.score(X, y):.1%}"
    assert draw(clf, X, y).ax_.get_title() == expected
    assert draw(clf, X, y, title="Animals").ax_.get_title() == "Animals"
    assert draw(clf, X).ax_.get_title() == ""


def test_training_and_test_data_have_panels_with_the_same_limits(clf, blobs_of_animals):
    X, y = blobs_of_animals
    display = draw(clf, X[:80], y[:80], X_test=X[80:], y_test=y[80:])
    left, right = display.ax_, display.test_.ax_
    assert left.get_title() == f"Train: accuracy {clf.score(X[:80], y[:80]):.1%}"
    assert right.get_title() == f"Test: accuracy {clf.score(X[80:], y[80:]):.1%}"
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()][:4] == list(clf.classes_)
    assert left.get_legend() is right.get_legend() is None


def test_panels_go_into_axes_of_the_users(clf, blobs_of_animals):
    X, y = blobs_of_animals
    _, axes = plt.subplots(1, 2)
    display = draw(clf, X, y, X_test=X, y_test=y, ax=axes)
    assert [display.ax_, display.test_.ax_] == list(axes)
    assert axes[0].get_legend() is None
    assert axes[1].get_legend() is not None
    with pytest.raises(ValueError, match=r"needs two axes.* Got 1"):
        draw(clf, X, y, X_test=X, y_test=y, ax=axes[0])


def test_a_picture_can_be_drawn_again_in_another_way(clf, blobs_of_animals):
    display = draw(clf, *blobs_of_animals)
    first = display.ax_
    assert display.plot("contour", xlabel="x", ylabel="y", legend=False) is display
    assert display.ax_ is not first
    assert display.ax_.get_xlabel() == "x"
    assert display.ax_.get_ylabel() == "y"
    assert display.figure_.legends == []
    assert all(type(s).__name__ == "QuadContourSet" for s in display.surface_)


def test_the_margin_is_a_share_of_the_range_or_as_given():
    X = np.array([[0.0, 0.0], [1.0, 100.0]])
    clf = Planes().fit(X, None)
    ax = draw(clf, X).ax_
    np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [-0.05, 1.05, -5, 105])
    ax = draw(clf, X, eps=2).ax_
    np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [-2, 3, -2, 102])
    ax = draw(clf, X, xlim=(-7, 8), ylim=(1, 2)).ax_
    np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [-7, 8, 1, 2])


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return make_pipeline(StandardScaler(), make(lr=0.3)).fit(X, y), X, y


@pytest.mark.parametrize("features", [("alcohol", "hue"), (0, 10), (0, "hue"), (0, -3)])
def test_a_slice_shows_two_features_with_the_others_held(wine, features):
    model, X, y = wine
    display = draw(
        model, X, y, features=features, held={"proline": 500.0}, grid_resolution=5
    )
    rows = pd.DataFrame([X.median()] * 25)
    rows["proline"] = 500.0
    rows["alcohol"], rows["hue"] = display.xx0.ravel(), display.xx1.ravel()
    expected = model.predict_proba(rows).reshape(5, 5, 3)
    np.testing.assert_allclose(display.response, expected, rtol=1e-5)
    note = "proline = 500, others at their median"
    assert display.ax_.get_xlabel() == f"alcohol\n{note}"
    assert display.ax_.get_ylabel() == "hue"
    points = np.concatenate([artist.get_offsets() for artist in display.points_[:3]])
    assert len(points) == len(X)


def test_the_plane_of_two_principal_components_goes_through_the_mean(wine):
    model, X, y = wine
    display = draw(
        model, X, y, features="pca", grid_resolution=3, xlim=(-1, 1), ylim=(-1, 1)
    )
    expected = model.predict_proba(X.mean().to_frame().T)[0]
    np.testing.assert_allclose(display.response[1, 1], expected, rtol=1e-4)
    assert "principal component 1 (36% of the variance)" in display.ax_.get_xlabel()
    assert "in the plane through their mean" in display.ax_.get_xlabel()


needs_1_9 = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="needs scikit-learn 1.9",
)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame, pytest.param(pl.DataFrame, marks=needs_1_9)]
)
def test_frames_with_columns_of_other_kinds_are_sliced(frame):
    rng = np.random.default_rng(0)
    columns = {
        "size": rng.normal(size=60),
        "kind": np.array(["a", "b", "b"])[np.arange(60) % 3],
        "weight": rng.normal(size=60),
    }
    X, y = frame(columns), np.where(columns["size"] > 0, "big", "small")
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["kind"]), remainder="passthrough"
    )
    model = make_pipeline(encode, DecisionTreeClassifier(random_state=0)).fit(X, y)
    display = draw(model, X, y, features=("size", "weight"), held={"kind": "a"})
    assert display.ax_.get_title() == "Accuracy 100.0%"
    assert display.ax_.get_xlabel() == "size\nkind = a"
    assert display.points_[0].get_label() == "big"


def test_entropy_and_margin_are_numbers_of_the_probabilities(clf, blobs_of_animals):
    X, _ = blobs_of_animals
    display = draw(clf, X, response_method="entropy", grid_resolution=9)
    rows = np.stack([display.xx0.ravel(), display.xx1.ravel()], 1)
    p = clf.predict_proba(rows).astype(float)
    entropy = -(p * np.log2(p, where=p > 0, out=np.zeros_like(p))).sum(1)
    np.testing.assert_allclose(display.response.ravel(), entropy, rtol=1e-4, atol=1e-6)
    assert display.figure_.axes[1].get_ylabel() == "entropy (bits)"
    display = draw(clf, X, response_method="margin", grid_resolution=9)
    p.sort(1)
    np.testing.assert_allclose(display.response.ravel(), p[:, -1] - p[:, -2], atol=1e-5)


def test_one_class_can_be_shown_by_its_probability(clf, blobs_of_animals):
    X, y = blobs_of_animals
    display = draw(clf, X, y, class_of_interest="cat", grid_resolution=9)
    rows = np.stack([display.xx0.ravel(), display.xx1.ravel()], 1)
    np.testing.assert_allclose(
        display.response.ravel(), clf.predict_proba(rows)[:, 2], rtol=1e-5
    )
    assert display.figure_.axes[1].get_ylabel() == "probability of cat"
    assert len(display.points_) >= 4


@pytest.mark.parametrize(("name", "sign"), [(False, -1), (True, 1)])
def test_one_of_two_classes_can_be_shown_by_its_decision_function(
    blobs_of_animals, name, sign
):
    X, y = blobs_of_animals
    clf = LogisticRegression().fit(X, y == "cat")
    display = draw(
        clf,
        X,
        response_method="decision_function",
        class_of_interest=name,
        grid_resolution=9,
    )
    rows = np.stack([display.xx0.ravel(), display.xx1.ravel()], 1)
    expected = sign * clf.decision_function(rows)
    np.testing.assert_allclose(display.response.ravel(), expected)
    label = f"decision function of {name}"
    assert display.figure_.axes[1].get_ylabel() == label


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_each_class_can_have_a_panel_of_its_own(blobs_of_animals, n_classes):
    X, y = blobs_of_animals
    chosen = np.isin(y, np.unique(y)[:n_classes])
    clf = make(lr=0.5).fit(X[chosen], y[chosen])
    display = draw(clf, X[chosen], y[chosen])
    assert display.plot_classes() is display
    assert [ax.get_title() for ax in display.axes_] == list(clf.classes_)
    assert display.figure_.axes == display.axes_
    for k, ax in enumerate(display.axes_):
        (image,) = ax.get_images()
        color = display.multiclass_colors_[k, :3]
        # The class's colour is in its region more than in others.
        share, off = strength(np.asarray(image.get_array()), color)
        assert off.max() < 1e-6
        lead = display._leads()[..., k]
        at = np.linspace(0, 599, 300).round().astype(int)
        share = share[np.ix_(at, at)]
        assert share[lead > 0].mean() > 2 * share[lead < 0].mean()
    with pytest.raises(ValueError, match=rf"each of {n_classes} classes. Got 1"):
        display.plot_classes([plt.gca()])


def test_lines_of_the_first_layer_are_where_its_units_switch(wine):
    model, X, y = wine
    display = draw(model, X, y, features=(0, 9), first_layer=True)
    layer = model[-1].module_.linear_layers[0]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    lines = [
        line
        for line in display.ax_.collections
        if type(line).__name__ == "QuadContourSet" and line not in display.borders_
    ]
    assert lines
    for line in lines:
        (path,) = line.get_paths()
        rows = pd.DataFrame([X.median()] * len(path.vertices))
        rows.iloc[:, 0], rows.iloc[:, 9] = path.vertices.T
        at = model[0].transform(rows) @ weight.T + bias
        assert np.abs(at).min(1).max() < 1e-3


@pytest.mark.parametrize("wrap", [lambda clf: clf, lambda clf: make_pipeline(clf)])
def test_a_search_and_a_pipeline_are_drawn_as_what_they_found(blobs_of_animals, wrap):
    X, y = blobs_of_animals
    search = GridSearchCV(make(lr=0.5), {"hidden_units": [3]}, cv=2)
    model = wrap(search).fit(X, y)
    display = draw(model, X, y, first_layer=True)
    assert display.ax_.get_title() == f"Accuracy {model.score(X, y):.1%}"


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), RidgeClassifier(), DecisionTreeClassifier(random_state=0)],
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_other_classifiers_are_drawn_by_what_they_predict(
    estimator, n_classes, blobs_of_animals
):
    X, y = blobs_of_animals
    X, y = (
        X[np.isin(y, np.unique(y)[:n_classes])],
        y[np.isin(y, np.unique(y)[:n_classes])],
    )
    estimator.fit(X, y)
    display = draw(estimator, X, y, grid_resolution=20)
    rows = np.stack([display.xx0.ravel(), display.xx1.ravel()], 1)
    leader = estimator.classes_[display._leads().reshape(-1, n_classes).argmax(1)]
    np.testing.assert_array_equal(leader, estimator.predict(rows))
    np.testing.assert_allclose(
        display.multiclass_colors_[0], to_rgba("#3f90da"), atol=1e-6
    )


@pytest.mark.parametrize(
    "estimator", [LinearRegression(), IsolationForest(random_state=0)]
)
def test_what_is_no_classifier_is_drawn_as_scikit_learn_does(estimator, small):
    X, y = small[0][:, :2], small[1]
    estimator.fit(X, y)
    ours = draw(estimator, X, grid_resolution=20)
    theirs = inspection.DecisionBoundaryDisplay.from_estimator(
        estimator, X, grid_resolution=20
    )
    assert isinstance(ours, inspection.DecisionBoundaryDisplay)
    np.testing.assert_array_equal(ours.response, theirs.response)
    assert type(ours.surface_) is type(theirs.surface_)


def test_every_argument_of_scikit_learn_is_there():
    for name in ("from_estimator", "plot", "__init__"):
        theirs = inspect.signature(getattr(inspection.DecisionBoundaryDisplay, name))
        ours = inspect.signature(getattr(DecisionBoundaryDisplay, name))
        assert theirs.parameters.keys() <= ours.parameters.keys()


def test_a_colormap_colours_two_classes_where_it_is_given(blobs_of_animals):
    X, y = blobs_of_animals
    clf = LogisticRegression().fit(X, y == "cat")
    display = draw(clf, X, plot_method="contourf", cmap="RdBu", alpha=0.5)
    assert display.surface_.get_cmap().name == "RdBu"
    assert display.surface_.get_alpha() == 0.5


def test_colours_of_classes_can_be_chosen(clf, blobs_of_animals):
    X, _ = blobs_of_animals
    names = ["red", "#00ff00", "C0", "black"]
    display = draw(clf, X, multiclass_colors=names)
    expected = [to_rgba(name) for name in names]
    np.testing.assert_allclose(display.multiclass_colors_, expected)
    tab = draw(clf, X, multiclass_colors="tab10").multiclass_colors_
    np.testing.assert_allclose(tab[1], to_rgba("tab:orange"))


def nearest(colors):
    """Return the least distance of two colours, in Oklab, as any vision sees them."""
    seen = _seen(colors)
    distances = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
    return (distances + 9 * np.eye(len(colors))).min()


@pytest.mark.parametrize("n", [2, 10, 15, 20, 30])
def test_colours_can_be_told_apart_with_any_colour_vision(n):
    colors = distinct_colors(n)
    assert len(np.unique(colors, axis=0)) == n
    assert ((colors >= 0) & (colors <= 1)).all()
    assert nearest(colors) > (0.05 if n <= 20 else 0.03)
    if n > 10:
        assert nearest(colors) > 2 * nearest(class_colors("gist_rainbow", n))


def test_a_lead_is_the_distance_to_the_best_of_the_others():
    scores = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.0, 0.0, 1.0]])
    expected = [[0.2, -0.2, -0.3], [0.0, 0.0, -0.2], [-1.0, -1.0, 1.0]]
    np.testing.assert_allclose(leads_of(scores), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"plot_method": "mesh"}, "plot_method must be one of image, .* Got mesh"),
        ({"response_method": "logits"}, "response_method must be .* Got logits"),
        ({"grid_resolution": 1}, "grid_resolution must be greater than 1. Got 1"),
        ({"eps": -1}, "eps must be greater than or equal to 0. Got -1"),
        ({"class_of_interest": "cow"}, "class_of_interest='cow' is not a valid"),
        ({"features": (0, 2)}, "no feature 2; give 0 to 1"),
        ({"features": (0, 0)}, "two different features"),
        ({"features": "x"}, "two features, as indices or names, or 'pca'. Got 'x'"),
        ({"features": (0, 1), "held": {0: 1.0}}, "can't be held"),
        ({"features": "pca", "held": {0: 1.0}}, "no feature is held"),
        ({"multiclass_colors": "no_map"}, "name of a colormap .* Got 'no_map'"),
        ({"multiclass_colors": ["red"]}, "a colour for each of 4 classes"),
        ({"multiclass_colors": "tab10x"}, "Got 'tab10x'"),
        ({"y": ["ant"]}, "a class for each row. Got 120 rows of X and 1 classes"),
    ],
)
def test_an_error_says_what_is_needed_and_what_was_given(
    clf, blobs_of_animals, params, message
):
    with pytest.raises(ValueError, match=f"DecisionBoundaryDisplay.*{message}"):
        draw(clf, blobs_of_animals[0], **params)


def test_a_colormap_needs_a_colour_for_each_class():
    X = np.zeros((9, 2))
    clf = DummyClassifier().fit(X, np.arange(9))
    with pytest.raises(ValueError, match="each of 9 classes, and the colormap 'Set2'"):
        draw(clf, X, multiclass_colors="Set2")
    assert len(draw(clf, X, multiclass_colors="Set1").multiclass_colors_) == 9


def test_data_are_rows_of_features(clf, blobs_of_animals):
    with pytest.raises(ValueError, match=r"\(n_samples, n_features\).* shape \(120,\)"):
        draw(clf, blobs_of_animals[0][:, 0])


def test_principal_components_are_those_of_numbers(blobs_of_animals):
    X, y = blobs_of_animals
    frame = pd.DataFrame(X, columns=["x", "y"]).assign(kind=y)
    only_numbers = make_column_transformer(("passthrough", ["x", "y"]))
    model = make_pipeline(only_numbers, LogisticRegression()).fit(frame, y)
    with pytest.raises(ValueError, match=r"features='pca' needs numbers in all col"):
        draw(model, frame, features="pca")


def test_more_features_need_a_choice(wine):
    model, X, y = wine
    with pytest.raises(ValueError, match=r"equal to 2. Got 13 instead: choose two by"):
        draw(model, X, y)
    with pytest.raises(ValueError, match=r"no feature 'size'; give one of \['alcohol'"):
        draw(model, X, y, features=("alcohol", "size"))


def test_first_layers_are_those_of_networks(blobs_of_animals):
    X, y = blobs_of_animals
    with pytest.raises(ValueError, match=r"needs a TorchBlobClassifier with hidden"):
        draw(LogisticRegression().fit(X, y), X, first_layer=True)


def test_a_method_that_the_classifier_lacks_is_named(blobs_of_animals):
    X, y = blobs_of_animals
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"no method decision_function. Choose"):
        draw(tree, X, response_method="decision_function")


@needs_1_9
def test_clusters_are_drawn_as_scikit_learn_does(small):
    X = small[0][:, :2]
    kmeans = KMeans(3, n_init=1, random_state=0).fit(X)
    assert draw(kmeans, X, grid_resolution=10).response.shape == (10, 10)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("method", [None, "contour", "contourf"])
@pytest.mark.parametrize(
    "params",
    [
        {"levels": 5},
        {"levels": [0.0, 0.25, 0.5, 0.75, 1.0]},
        {"extend": "both"},
        {"antialiased": True, "alpha": 0.5},
    ],
)
def test_arguments_of_contours_are_passed_on(
    blobs_of_animals, n_classes, method, params
):
    X, y = blobs_of_animals
    chosen = np.isin(y, np.unique(y)[:n_classes])
    clf = LogisticRegression().fit(X[chosen], y[chosen])
    display = draw(clf, X, plot_method=method, grid_resolution=20, **params)
    surface = display.surface_
    last = surface[-1] if isinstance(surface, list) else surface
    assert type(last).__name__ == "QuadContourSet"


def test_levels_of_two_classes_are_those_of_the_response(blobs_of_animals):
    X, y = blobs_of_animals
    clf = LogisticRegression().fit(X, y == "cat")
    display = draw(clf, X, plot_method="contour", levels=[0.5], colors="k")
    for path in display.surface_.get_paths():
        p = clf.predict_proba(path.vertices)[:, 1]
        np.testing.assert_allclose(p, 0.5, atol=0.01)


def test_a_colormap_of_many_classes_is_ignored_with_a_warning(clf, blobs_of_animals):
    with pytest.warns(UserWarning, match="'cmap' is ignored in favor of"):
        draw(clf, blobs_of_animals[0], cmap="viridis")


@pytest.mark.parametrize("method", ["image", "contour", "contourf", "pcolormesh"])
def test_a_class_that_never_leads_alone_is_no_trouble(method):
    X, y = np.zeros((6, 2)), [0, 1, 2, 0, 1, 2]
    display = draw(DummyClassifier().fit(X, y), X, plot_method=method)
    assert display.borders_ == []


def test_scores_that_are_not_of_the_classes_that_are_predicted_are_not_drawn(
    blobs_of_animals,
):
    X, y = blobs_of_animals
    votes = SVC(decision_function_shape="ovo", random_state=0).fit(X, y)
    display = draw(votes, X, grid_resolution=20)
    rows = np.stack([display.xx0.ravel(), display.xx1.ravel()], 1)
    leader = votes.classes_[display._leads().reshape(-1, 4).argmax(1)]
    np.testing.assert_array_equal(leader, votes.predict(rows))
    with pytest.raises(ValueError, match=r"each of 4 classes. decision_function .* 6"):
        draw(votes, X, response_method="decision_function")


def test_an_inverted_axis_stays_inverted(clf, blobs_of_animals):
    _, ax = plt.subplots()
    ax.invert_yaxis()
    draw(clf, blobs_of_animals[0], ax=ax)
    assert ax.yaxis_inverted()
    assert not ax.xaxis_inverted()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["a", None, "b", "b"], object),
        (["a", None, "b", "b"], "string"),
        ([True, None, False, False], object),
        ([True, None, False, False], "boolean"),
    ],
)
def test_held_columns_may_have_missing_values(values, dtype):
    frame = pd.DataFrame({"x": [0.0, 1, 2, 3], "y": [1.0, 0, 1, 0]})
    frame["held"] = pd.array(values, dtype=dtype)
    only_numbers = make_column_transformer(("passthrough", ["x", "y"]))
    model = make_pipeline(only_numbers, LogisticRegression()).fit(frame, [0, 0, 1, 1])
    display = draw(model, frame, features=("x", "y"))
    assert "median or most frequent value" in display.ax_.get_xlabel().replace(
        "\n", " "
    )


def test_rows_of_classes_that_are_not_known_are_grey(clf, blobs_of_animals):
    X, y = blobs_of_animals
    display = draw(clf, X, np.where(np.arange(len(y)) < 5, "cow", y))
    others = display.points_[0]
    assert others.get_label() == "other"
    np.testing.assert_array_equal(others.get_offsets(), X[:5])


def test_what_is_no_classifier_has_no_classes_to_draw(small):
    X, y = small[0][:, :2], small[1]
    with pytest.raises(ValueError, match=r"LinearRegression, which is no .* without y"):
        draw(LinearRegression().fit(X, y), X, y)


def test_pictures_of_principal_components_are_repeatable():
    X = np.random.default_rng(0).normal(size=(1000, 150))
    y = (X[:, 0] > 0).astype(int)
    clf = LogisticRegression().fit(X, y)
    first, second = (draw(clf, X, features="pca", grid_resolution=3) for _ in "ab")
    np.testing.assert_array_equal(first.xx0, second.xx0)


def test_an_error_opens_no_figure(clf, blobs_of_animals):
    with pytest.raises(ValueError, match="colormap"):
        draw(clf, blobs_of_animals[0], multiclass_colors="no_map")
    assert plt.get_fignums() == []


def test_several_outputs_are_refused(small):
    X, y = small[0][:, :2], small[1]
    clf = DecisionTreeClassifier(random_state=0).fit(X, np.stack([y, y > 0], 1))
    with pytest.raises(
        ValueError, match="multi-output multi-class classifiers are not"
    ):
        draw(clf, X)
