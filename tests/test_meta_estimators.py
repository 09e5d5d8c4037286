"""The classifier as a part of scikit-learn's pipelines, searches and ensembles."""

import inspect

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import weights
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_moons
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import compute_class_weight
from sklearn.utils.estimator_checks import check_array_api_input
from skorch.callbacks import Callback

from torchblob import TorchBlobClassifier

FAST = {"optimizer": "adam", "lr": 0.05, "max_epochs": 10}
CV = StratifiedKFold(2)


def adagrad(params, lr, weight_decay):
    return torch.optim.Adagrad(params, lr=lr, weight_decay=weight_decay)


CANDIDATES = {
    "hidden_units": [3, (4, 2)],
    "activation": ["relu", "tanh"],
    "dropout": [0.0, 0.5],
    "optimizer": ["sgd", adagrad],
    "lr": [0.1, 0.5],
    "momentum": [0.0, 0.9],
    "weight_decay": [0.0, 0.1],
    "lr_schedule": [None, "linear"],
    "batch_size": [None, 8],
    "max_epochs": [1, 5],
    "class_weight": [None, "balanced"],
    "label_smoothing": [0.0, 0.2],
    "early_stopping": [False, True],
    "scoring": ["loss", "accuracy"],
    "validation_fraction": [0.1, 0.5],
    "n_iter_no_change": [3, 10],
    "tol": [0.0, 0.1],
    "warm_start": [False, True],
    "callbacks": [None, [Callback()]],
    "device": ["cpu", torch.device("cpu")],
    "dtype": ["float32", "float64"],
    "random_state": [0, 1],
    "verbose": [0, 1],
}


def make(**params):
    return TorchBlobClassifier(**{"device": "cpu", "random_state": 0} | params)


def assert_same_model(clf, expected):
    torch.testing.assert_close(weights(clf), weights(expected), rtol=1e-9, atol=1e-10)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(120, noise=0.3, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


def test_a_pipeline_trains_on_scaled_rows(small):
    X, y = small
    unscaled = X * 1e4 + 1e6
    pipe = make_pipeline(StandardScaler(), make(**FAST)).fit(unscaled, y)
    assert pipe.score(unscaled, y) > 0.9
    np.testing.assert_allclose(
        pipe.predict_proba(unscaled), make(**FAST).fit(X, y).predict_proba(X), rtol=1e-6
    )


def test_feature_names_arrive_through_a_pipeline_of_data_frames(small):
    X, y = small
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipe = make_pipeline(StandardScaler(), make(**FAST)).set_output(transform="pandas")
    pipe.fit(frame, y)
    assert pipe[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_allclose(
        pipe.predict_proba(frame), make(**FAST).fit(X, y).predict_proba(X), rtol=1e-6
    )
    with pytest.raises(ValueError, match="feature names"):
        pipe[-1].predict(frame[["b", "a", "c", "d"]])


def test_a_grid_search_over_hidden_units_mixes_ints_and_tuples(moons):
    grid = {"hidden_units": [4, 32, (), (16, 16, 16)]}
    base = make(optimizer="adam", lr=0.05, tol=1)
    search = GridSearchCV(base, grid, cv=CV).fit(*moons)
    expected = [
        cross_val_score(clone(base).set_params(hidden_units=h), *moons, cv=CV)
        for h in grid["hidden_units"]
    ]
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], np.mean(expected, 1)
    )
    best = grid["hidden_units"][int(np.argmax(np.mean(expected, 1)))]
    assert search.best_params_ == {"hidden_units": best}
    assert search.score(*moons) > 0.88  # a linear model has 0.85


@pytest.mark.usefixtures("_loky_ends")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_in_parallel_finds_what_one_by_one_finds(small, backend):
    grid = {"hidden_units": [4, (8, 8)], "batch_size": [None, 16], "dropout": [0, 0.2]}
    base = make(max_epochs=5)
    alone = GridSearchCV(base, grid, cv=CV, scoring="neg_log_loss").fit(*small)
    with joblib.parallel_config(backend):
        parallel = clone(alone).set_params(n_jobs=2).fit(*small)
    for fold in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(
            alone.cv_results_[fold], parallel.cv_results_[fold], rtol=1e-9
        )
    assert alone.best_params_ == parallel.best_params_
    assert_same_model(alone.best_estimator_, parallel.best_estimator_)
    assert len(set(alone.cv_results_["mean_test_score"])) == 8


def test_a_grid_search_reaches_into_a_pipeline(small):
    pipe = Pipeline([("scale", StandardScaler()), ("clf", make(max_epochs=10))])
    grid = {"clf__lr": [1e-6, 0.5], "scale": [StandardScaler(), "passthrough"]}
    search = GridSearchCV(pipe, grid, cv=CV, scoring="neg_log_loss").fit(*small)
    assert search.best_params_["clf__lr"] == search.best_estimator_["clf"].lr == 0.5
    assert len(set(search.cv_results_["mean_test_score"])) == 4


def test_every_parameter_has_candidates():
    assert set(CANDIDATES) == set(inspect.signature(TorchBlobClassifier).parameters)


@pytest.mark.parametrize("param", CANDIDATES)
def test_every_parameter_can_be_searched(small, param):
    values = CANDIDATES[param]
    base = make(max_epochs=3, early_stopping=True)
    search = GridSearchCV(
        base, {param: values}, cv=CV, scoring="neg_log_loss", error_score="raise"
    ).fit(*small)
    assert [params[param] for params in search.cv_results_["params"]] == values
    expected = [
        cross_val_score(
            clone(base).set_params(**{param: value}),
            *small,
            cv=CV,
            scoring="neg_log_loss",
        ).mean()
        for value in values
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    best = clone(base).set_params(**search.best_params_).fit(*small)
    assert torch.equal(weights(search.best_estimator_), weights(best))


def test_cross_validation_is_the_loop_by_hand(small):
    X, y = small
    expected = [
        make(max_epochs=5).fit(X[train], y[train]).score(X[test], y[test])
        for train, test in StratifiedKFold(3).split(X, y)
    ]
    scores = cross_val_score(make(max_epochs=5), X, y, cv=3)
    np.testing.assert_array_equal(scores, expected)


def test_cross_validation_splits_the_sample_weights(small):
    X, y = small
    sample_weight = np.random.default_rng(0).uniform(size=len(y))
    result = cross_validate(
        make(max_epochs=5),
        X,
        y,
        params={"sample_weight": sample_weight},
        cv=CV,
        return_estimator=True,
        return_indices=True,
    )
    for clf, rows in zip(result["estimator"], result["indices"]["train"], strict=True):
        expected = make(max_epochs=5).fit(X[rows], y[rows], sample_weight[rows])
        assert torch.equal(weights(clf), weights(expected))


def test_balanced_class_weights_are_those_of_each_fold(small):
    X, y = small
    rows = np.argsort(y, kind="stable")[30:]
    X, y = X[rows], y[rows]
    result = cross_validate(
        make(max_epochs=5, class_weight="balanced"),
        X,
        y,
        cv=StratifiedKFold(4),
        return_estimator=True,
        return_indices=True,
    )
    counts = set()
    for clf, rows in zip(result["estimator"], result["indices"]["train"], strict=True):
        classes = np.unique(y)
        by_class = compute_class_weight("balanced", classes=classes, y=y[rows])
        manual = make(max_epochs=5, class_weight=dict(enumerate(by_class)))
        assert_same_model(clf, manual.fit(X[rows], y[rows]))
        counts.add(tuple(np.bincount(y[rows])))
    assert len(counts) > 1


def test_a_halving_search_gives_more_epochs_to_the_better(small):
    search = HalvingGridSearchCV(
        make(max_epochs=1, optimizer="adam"),
        {"lr": [1e-6, 1e-5, 0.05, 0.1]},
        resource="max_epochs",
        min_resources=2,
        max_resources=8,
        factor=2,
        cv=CV,
        scoring="neg_log_loss",
        random_state=0,
    ).fit(*small)
    assert search.best_params_ == {"lr": 0.1, "max_epochs": 8}
    assert search.best_estimator_.n_iter_ == 8
    assert search.n_candidates_ == [4, 2, 1]


def test_learning_curve_is_cross_validation_of_parts(small):
    X, y = small
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    sizes, train_scores, test_scores = learning_curve(
        make(max_epochs=5), X, y, train_sizes=[20, 60], cv=CV
    )
    for i, size in enumerate(sizes):
        for j, (train, test) in enumerate(CV.split(X, y)):
            part = train[:size]
            clf = make(max_epochs=5).fit(X[part], y[part])
            assert train_scores[i, j] == clf.score(X[part], y[part])
            assert test_scores[i, j] == clf.score(X[test], y[test])


def test_validation_curve_is_cross_validation_of_values(small):
    rates = [1e-6, 0.05]
    _, scores = validation_curve(
        make(**FAST), *small, param_name="lr", param_range=rates, cv=CV
    )
    for row, lr in zip(scores, rates, strict=True):
        expected = cross_val_score(make(**FAST | {"lr": lr}), *small, cv=CV)
        np.testing.assert_array_equal(row, expected)
    assert scores[1].mean() > 0.9 > scores[0].mean()


def test_permutation_importance_ranks_information_above_noise(moons):
    X, y = moons
    noise = np.random.default_rng(0).normal(size=(len(y), 2))
    X = np.c_[noise[:, :1], X, noise[:, 1:]]
    clf = make(**FAST).fit(X, y)
    importance = permutation_importance(clf, X, y, n_repeats=5, random_state=0)
    means = importance.importances_mean
    assert min(means[1], means[2]) > 0.02 + max(means[0], means[3], 0)


def test_calibration_fits_on_each_fold_and_calibrates_the_rest(small):
    X, y = small
    calibrated = CalibratedClassifierCV(make(**FAST), cv=CV).fit(X, y)
    assert calibrated.score(X, y) > 0.9
    folds = zip(calibrated.calibrated_classifiers_, CV.split(X, y), strict=True)
    for part, (train, _) in folds:
        expected = make(**FAST).fit(X[train], y[train])
        assert torch.equal(weights(part.estimator), weights(expected))
    # Ten epochs leave the network less sure of its classes than it may be.
    raw = log_loss(y, make(**FAST).fit(X, y).predict_proba(X))
    assert log_loss(y, calibrated.predict_proba(X)) < raw


def test_bagging_fits_on_rows_drawn_with_repetition(small):
    X, y = small
    bagging = BaggingClassifier(make(**FAST), n_estimators=3, random_state=0).fit(X, y)
    assert bagging.score(X, y) > 0.9
    for clf, rows in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        counts = np.bincount(rows, minlength=len(y)).astype(float)
        assert_same_model(clf, clone(clf).fit(X, y, counts))
        assert_same_model(clf, clone(clf).fit(X[np.sort(rows)], y[np.sort(rows)]))
    seeds = {clf.random_state for clf in bagging.estimators_}
    assert len(seeds) == 3


def test_boosting_weighs_the_errors_of_the_last_network(moons):
    X, y = moons
    boosted = AdaBoostClassifier(
        make(hidden_units=(), **FAST), n_estimators=3, random_state=0
    ).fit(X, y)
    first, second = boosted.estimators_[:2]
    wrong = first.predict(X) != y
    assert boosted.estimator_errors_[0] == pytest.approx(wrong.mean())
    sample_weight = np.where(wrong, (1 - wrong.mean()) / wrong.mean(), 1.0)
    sample_weight /= sample_weight.sum()
    assert_same_model(second, clone(second).fit(X, y, sample_weight))
    assert not torch.allclose(weights(second), weights(clone(second).fit(X, y)))
    assert boosted.score(X, y) > 0.8


def test_stacking_passes_probabilities_on(small):
    X, y = small
    members = [("one", make(**FAST)), ("two", make(**FAST, random_state=1))]
    stack = StackingClassifier(members, LogisticRegression(), cv=CV).fit(X, y)
    assert stack.stack_method_ == ["predict_proba"] * 2
    expected = [clf.fit(X, y).predict_proba(X) for _, clf in members]
    np.testing.assert_allclose(stack.transform(X), np.hstack(expected), rtol=1e-12)
    assert stack.score(X, y) > 0.9


def test_soft_voting_averages_probabilities(small):
    X, y = small
    names = np.array(["red", "green", "blue"])[y]
    members = [("net", make(**FAST)), ("linear", LogisticRegression())]
    vote = VotingClassifier(members, voting="soft", weights=[3, 1]).fit(X, names)
    net, linear = (clf.fit(X, names).predict_proba(X) for _, clf in members)
    np.testing.assert_allclose(vote.predict_proba(X), (3 * net + linear) / 4)
    assert vote.score(X, names) > 0.9


def test_one_against_the_rest_fits_a_network_a_class(small):
    X, y = small
    ovr = OneVsRestClassifier(make(**FAST)).fit(X, y)
    expected = [make(**FAST).fit(X, y == k).decision_function(X) for k in range(3)]
    np.testing.assert_allclose(ovr.decision_function(X), np.transpose(expected))
    assert ovr.score(X, y) > 0.9


def test_one_against_one_fits_a_network_a_pair(small):
    X, y = small
    ovo = OneVsOneClassifier(make(**FAST)).fit(X, y)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for clf, (i, j) in zip(ovo.estimators_, pairs, strict=True):
        rows = (y == i) | (y == j)
        assert_same_model(clf, make(**FAST).fit(X[rows], y[rows] == j))
    assert ovo.score(X, y) > 0.9


def test_self_training_labels_rows_by_probability(small):
    X, y = small
    labels = np.full(len(y), -1)
    known = np.concatenate([np.flatnonzero(y == k)[:5] for k in range(3)])
    labels[known] = y[known]
    base = make(optimizer="adam", lr=0.05, tol=1)
    clf = SelfTrainingClassifier(base, threshold=0.9).fit(X, labels)
    sure = clone(base).fit(X[known], y[known]).predict_proba(X).max(1) > 0.9
    sure[known] = False
    np.testing.assert_array_equal(clf.labeled_iter_ == 1, sure)
    assert sure.sum() > 20
    assert clf.score(X, y) > 0.9


def test_a_threshold_is_tuned_on_probabilities(moons):
    X, y = moons
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:12]]
    X, y = X[rows], y[rows]
    tuned = TunedThresholdClassifierCV(
        make(**FAST), scoring="balanced_accuracy", cv=CV, random_state=0
    ).fit(X, y)
    clf = make(**FAST).fit(X, y)
    expected = clf.predict_proba(X)[:, 1] >= tuned.best_threshold_
    np.testing.assert_array_equal(tuned.predict(X), expected)
    assert tuned.best_threshold_ < 0.4
    plain = balanced_accuracy_score(y, clf.predict(X))
    assert balanced_accuracy_score(y, tuned.predict(X)) > plain + 0.1


def test_a_clone_has_the_same_parameters_and_no_model(small):
    params = {
        "hidden_units": (16, 4),
        "optimizer": adagrad,
        "class_weight": {0: 2.0, 1: 1.0, 2: 1.0},
        "scoring": accuracy_score,
        "device": torch.device("cpu"),
        "max_epochs": 5,
    }
    clf = make(**params).fit(*small)
    copy = clone(clf)
    assert copy.get_params() == clf.get_params()
    assert copy.optimizer is adagrad
    assert copy.scoring is accuracy_score
    assert isinstance(copy.hidden_units, tuple)
    assert not hasattr(copy, "classes_")
    assert torch.equal(weights(copy.fit(*small)), weights(clf))


def test_a_clone_of_callbacks_trains_the_same(small):
    clf = make(callbacks=[("mine", Callback()), Callback()], max_epochs=5).fit(*small)
    copy = clone(clf)
    assert [type(c) for c in copy.callbacks] == [type(c) for c in clf.callbacks]
    assert torch.equal(weights(copy.fit(*small)), weights(clf))


def test_parameters_are_set_through_all_levels(small):
    pipe = make_pipeline(StandardScaler(), OneVsRestClassifier(make()))
    prefix = "onevsrestclassifier__estimator__"
    pipe.set_params(**{f"{prefix}{name}": value for name, value in FAST.items()})
    pipe.set_params(**{f"{prefix}hidden_units": (5,)})
    members = pipe.fit(*small)[-1].estimators_
    assert [clf.n_iter_ for clf in members] == [10, 10, 10]
    widths = [clf.module_.linear_layer_stack[0].out_features for clf in members]
    assert widths == [5, 5, 5]
    with pytest.raises(ValueError, match="Invalid parameter 'units'"):
        make().set_params(units=3)


@pytest.fixture
def split(small):
    X, y = small
    unscaled = X * 100 + 1000
    return unscaled[:80], y[:80], unscaled[80:], y[80:]


def scaled_by_hand(split, sample_weight=None):
    X, y, X_val, y_val = split
    scaler = StandardScaler().fit(X)
    return make(max_epochs=5).fit(
        scaler.transform(X),
        y,
        sample_weight,
        X_val=scaler.transform(X_val),
        y_val=y_val,
    )


def test_validation_data_are_scaled_on_their_way_through_a_pipeline(split, routing):
    X, y, X_val, y_val = split
    sample_weight = np.random.default_rng(0).uniform(size=len(y))
    clf = make(max_epochs=5)
    clf.set_fit_request(sample_weight=True, X_val=True, y_val=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipe = Pipeline([("scale", scaler), ("clf", clf)], transform_input=["X_val"])
    pipe.fit(X, y, sample_weight=sample_weight, X_val=X_val, y_val=y_val)
    expected = scaled_by_hand(split, sample_weight)
    assert torch.equal(weights(pipe["clf"]), weights(expected))
    losses = pipe["clf"].history_[:, "valid_loss"]
    assert losses == expected.history_[:, "valid_loss"]
    assert losses[-1] == pytest.approx(log_loss(y_val, pipe.predict_proba(X_val)))


def test_validation_data_stay_as_they_are_unless_asked_for(split, routing):
    X, y, X_val, y_val = split
    clf = make(max_epochs=5).set_fit_request(X_val=True, y_val=True)
    pipe = Pipeline([("scale", StandardScaler()), ("clf", clf)])
    pipe.fit(X, y, X_val=X_val, y_val=y_val)
    proba = pipe["clf"].predict_proba(X_val)
    expected = log_loss(y_val, proba)
    assert pipe["clf"].history_[-1]["valid_loss"] == pytest.approx(expected, rel=1e-3)
    scaled = scaled_by_hand(split)
    assert torch.equal(weights(pipe["clf"]), weights(scaled))
    assert expected > 10 * scaled.history_[-1]["valid_loss"]


def test_validation_data_reach_a_pipeline_by_name_without_routing(split):
    X, y, X_val, y_val = split
    pipe = Pipeline([("scale", StandardScaler()), ("clf", make(max_epochs=5))])
    X_val_scaled = StandardScaler().fit(X).transform(X_val)
    pipe.fit(X, y, clf__X_val=X_val_scaled, clf__y_val=y_val)
    expected = scaled_by_hand(split)
    assert pipe["clf"].history_ == expected.history_


@pytest.mark.parametrize("weighted", [True, False])
def test_scores_are_weighted_if_requested(small, routing, weighted):
    X, y = small
    sample_weight = np.random.default_rng(0).uniform(size=len(y)) ** 4
    clf = make(max_epochs=2)
    clf.set_fit_request(sample_weight=not weighted)
    clf.set_score_request(sample_weight=weighted)
    result = cross_validate(clf, X, y, params={"sample_weight": sample_weight}, cv=CV)
    expected = []
    for train, test in CV.split(X, y):
        fit_weight = None if weighted else sample_weight[train]
        score_weight = sample_weight[test] if weighted else None
        fitted = make(max_epochs=2).fit(X[train], y[train], fit_weight)
        expected.append(
            accuracy_score(y[test], fitted.predict(X[test]), sample_weight=score_weight)
        )
    np.testing.assert_allclose(result["test_score"], expected)


def test_weights_reach_partial_fit_if_requested(small, routing):
    X, y = small
    sample_weight = np.random.default_rng(0).uniform(size=len(y))
    ovr = OneVsRestClassifier(make().set_partial_fit_request(sample_weight=True))
    ovr.partial_fit(X, y, classes=[0, 1, 2], sample_weight=sample_weight)
    ovr.partial_fit(X[:60], y[:60], sample_weight=sample_weight[:60])
    for k, clf in enumerate(ovr.estimators_):
        expected = make().partial_fit(X, y == k, [False, True], sample_weight)
        expected.partial_fit(X[:60], y[:60] == k, sample_weight=sample_weight[:60])
        assert_same_model(clf, expected)


def test_a_search_routes_validation_data(small, routing):
    X, y = small
    clf = make(early_stopping=True, max_epochs=10)
    clf.set_fit_request(X_val=True, y_val=True)
    search = GridSearchCV(clf, {"lr": [0.1, 0.5]}, cv=CV)
    search.fit(X, y, X_val=X[:31], y_val=y[:31])
    best = search.best_estimator_
    expected = log_loss(y[:31], best.predict_proba(X[:31]))
    assert min(best.history_[:, "valid_loss"]) == pytest.approx(expected)


def test_repr_shows_the_parameters_that_were_changed():
    assert repr(TorchBlobClassifier()) == "TorchBlobClassifier()"
    clf = TorchBlobClassifier((16, 4), lr=0.5, class_weight="balanced")
    for part in ("hidden_units=(16, 4)", "lr=0.5", "class_weight='balanced'"):
        assert part in repr(clf)
    assert "dropout" not in repr(clf)


def test_the_representation_in_notebooks_has_the_parameters(small):
    html = make(hidden_units=(16, 4), max_epochs=5).fit(*small)._repr_html_()
    for part in ("TorchBlobClassifier", "hidden_units", "(16, 4)", "max_epochs"):
        assert part in html


METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_tensors_give_tensors_with_dispatch(small, dispatch, method, dtype, n_classes):
    X, y = small
    X, y = torch.from_numpy(X).to(dtype), torch.from_numpy(y % n_classes)
    clf = make(max_epochs=10).fit(X, y)
    output = getattr(clf, method)(X)
    assert isinstance(output, torch.Tensor)
    assert output.device == X.device
    assert output.dtype == (torch.int64 if method == "predict" else dtype)
    assert not output.requires_grad
    reference = make(max_epochs=10).fit(X.numpy(), y.numpy())
    expected = getattr(reference, method)(X.numpy())
    assert isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(output.numpy(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_tensors_give_numpy_without_dispatch(small, method):
    X, y = small
    clf = make(max_epochs=10).fit(torch.from_numpy(X), torch.from_numpy(y))
    output = getattr(clf, method)(torch.from_numpy(X))
    assert isinstance(output, np.ndarray)
    expected = getattr(make(max_epochs=10).fit(X, y), method)(X)
    np.testing.assert_array_equal(output, expected)


def test_string_labels_are_numpy_even_with_dispatch(small, dispatch):
    X, y = small
    names = np.array(["red", "green", "blue"])[y]
    clf = make(**FAST).fit(torch.from_numpy(X), names)
    labels = clf.predict(torch.from_numpy(X))
    assert isinstance(labels, np.ndarray)
    assert np.mean(labels == names) > 0.9
    np.testing.assert_array_equal(labels, clf.predict(X))
    assert isinstance(clf.predict_proba(torch.from_numpy(X)), torch.Tensor)
    assert clf.score(torch.from_numpy(X), names) == np.mean(labels == names)


def test_bool_labels_are_tensors_with_dispatch(small, dispatch):
    X, y = torch.from_numpy(small[0]), torch.from_numpy(small[1] == 0)
    labels = make(optimizer="adam", lr=0.05, tol=1).fit(X, y).predict(X)
    assert labels.dtype == torch.bool
    assert (labels == y).double().mean() > 0.9


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_tensors_are_those_of_arrays(small, dispatch, weighted):
    X, y = (torch.from_numpy(part) for part in small)
    weight = torch.arange(1.0, 121.0, dtype=torch.float64) if weighted else None
    clf = make(max_epochs=2).fit(X, y)
    score = clf.score(X, y, weight)
    assert isinstance(score, float)
    array_weight = None if weight is None else weight.numpy()
    expected = clf.score(*small, array_weight)
    assert score == pytest.approx(expected)
    assert float(accuracy_score(y, clf.predict(X), sample_weight=weight)) == (
        pytest.approx(expected)
    )
    assert np.average(
        clf.predict(X).numpy() == small[1], weights=array_weight
    ) == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_tensors_need_no_dispatch(small, weighted):
    X, y = (torch.from_numpy(part) for part in small)
    weight = np.arange(1.0, 121.0) if weighted else None
    clf = make(max_epochs=2).fit(X, y)
    tensor_weight = None if weight is None else torch.from_numpy(weight)
    assert clf.score(X, y, tensor_weight) == clf.score(*small, weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("namespace", ["torch", "numpy"])
def test_the_array_api_check_of_scikit_learn_passes(
    dispatch, namespace, dtype, weighted
):
    if "check_sample_weight" not in inspect.signature(check_array_api_input).parameters:
        pytest.skip(
            "this scikit-learn wants classes_ to be a tensor, or has no weights"
        )
    device = "cpu" if namespace == "torch" else None
    with config_context(array_api_dispatch=False):
        check_array_api_input(
            "TorchBlobClassifier",
            make(**FAST),
            namespace,
            device,
            dtype,
            check_values=True,
            check_sample_weight=weighted,
        )
