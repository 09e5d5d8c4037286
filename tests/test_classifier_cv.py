"""Settings are chosen by cross-validation, and the networks of the folds predict."""

import copy
import pickle
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ctrl_c_after, weights
from scipy import sparse
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_moons
from sklearn.exceptions import (
    ConvergenceWarning,
    FitFailedWarning,
    NotFittedError,
)
from sklearn.metrics import (
    accuracy_score,
    get_scorer,
    log_loss,
    make_scorer,
    recall_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    cross_val_score,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchblob import TorchBlobClassifier, TorchBlobClassifierCV
from torchblob._candidates import make_candidates
from torchblob._folds import CrossValidation
from torchblob._temperature import fit_temperature
from torchblob.training import DivergedError

ONE = {"hidden_units": 8, "encoding": "standard", "max_epochs": 20}
"""Parameters of a single candidate, which trains fast."""

unfinished = pytest.mark.filterwarnings(
    f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"
)


def make(**params):
    return TorchBlobClassifierCV(**{"device": "cpu", "random_state": 0} | ONE | params)


@pytest.fixture(scope="module")
def noisy():
    """Return 300 rows of 3 classes in 5 features that can't all be told apart."""
    return make_classification(
        300, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.1, random_state=0
    )


@pytest.fixture(scope="module")
def fitted(noisy):
    return make(cv=KFold(4)).fit(*noisy)


def log_proba_of(clf, member, X):
    """Return what one member says, at the classifier's temperature."""
    return log_softmax(member.predict_log_proba(X) / clf.temperature_, axis=1)


def test_the_prediction_is_the_mean_of_the_members(noisy, fitted):
    X, _ = noisy
    assert len(fitted.members_) == 4
    of_each = [softmax(log_proba_of(fitted, m, X), axis=1) for m in fitted.members_]
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba, np.mean(of_each, axis=0), rtol=1e-9)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(proba), rtol=1e-9)
    np.testing.assert_array_equal(
        fitted.predict(X), fitted.classes_[proba.argmax(axis=1)]
    )


def test_what_is_out_of_fold_comes_from_the_member_that_did_not_see_the_row(
    noisy, fitted
):
    X, y = noisy
    for member, (_, valid) in zip(fitted.members_, KFold(4).split(X), strict=True):
        expected = np.exp(log_proba_of(fitted, member, X[valid]))
        np.testing.assert_allclose(fitted.oof_proba_[valid], expected, rtol=1e-9)
    accuracy = accuracy_score(y, fitted.oof_proba_.argmax(1))
    assert fitted.best_score_ == pytest.approx(accuracy)


def test_members_know_nothing_of_the_rows_of_their_fold(noisy, fitted):
    X, y = noisy
    (train, valid) = next(KFold(4).split(X))
    params = {"encoding": "piecewise_linear", "cv": KFold(4)}
    before = make(**params).fit(X, y).members_[0]["encoder"]
    changed = X.copy()
    changed[valid] = 1e6 * changed[valid]
    after = make(**params).fit(changed, y).members_[0]["encoder"]
    np.testing.assert_array_equal(after.transform(X), before.transform(X))
    np.testing.assert_array_equal(
        before.transform(X), clone(before).fit(X[train]).transform(X)
    )


@unfinished
@pytest.mark.parametrize("weighted", [False, True])
def test_a_member_is_a_classifier_that_early_stopping_brought_to_its_best_epoch(
    noisy, weighted
):
    X, y = noisy
    weight = np.random.default_rng(0).uniform(0, 9, 300) if weighted else np.ones(300)
    clf = make(cv=KFold(4)).fit(X, y, weight)
    for member, (train, valid) in zip(clf.members_, KFold(4).split(X), strict=True):
        encoder, network = member["encoder"], member["network"]
        alone = clone(network).fit(
            encoder.transform(X[train]),
            y[train],
            weight[train],
            X_val=encoder.transform(X[valid]),
            y_val=y[valid],
            sample_weight_val=weight[valid],
        )
        torch.testing.assert_close(
            weights(network), weights(alone), rtol=1e-5, atol=1e-6
        )
        assert network.best_epoch_ == 1 + np.argmin(network.history_[:, "valid_loss"])
        assert network.early_stopping
        assert network.n_iter_no_change == 6  # of 20 epochs


def test_the_folds_of_candidates_of_one_shape_train_as_one_stack(noisy, stacks):
    make().fit(*noisy)
    make(lr=[0.01, 0.02], weight_decay=[0.0, 0.1]).fit(*noisy)
    make(hidden_units=[4, 8], cv=3).fit(*noisy)
    assert stacks == [5, 20, 3, 3]


@unfinished
def test_results_are_those_of_a_grid_search(noisy):
    grid = {"lr": [1e-4, 0.02], "hidden_units": [4, (8,)]}
    clf = make(**grid, cv=3).fit(*noisy)
    search = GridSearchCV(TorchBlobClassifier(), grid, cv=3).fit(*noisy)
    results = clf.cv_results_
    assert set(search.cv_results_) <= set(results)
    assert results["params"][0].items() > {"hidden_units": 4, "lr": 1e-4}.items()
    assert results["param_hidden_units"].tolist() == [4, 4, (8,), (8,)]
    assert results["param_lr"].tolist() == [1e-4, 0.02] * 2
    scores = np.array([results[f"split{k}_test_score"] for k in range(3)])
    np.testing.assert_allclose(results["mean_test_score"], scores.mean(0))
    np.testing.assert_allclose(results["std_test_score"], scores.std(0))
    best = int(np.argmax(scores.mean(0)))
    assert results["rank_test_score"][best] == 1
    assert (results["mean_fit_time"] > 0).all()
    assert (results["mean_score_time"] > 0).all()
    assert clf.best_index_ == best
    assert clf.best_params_ == results["params"][best]
    assert clf.best_score_ == results["mean_test_score"][best]
    assert clf.n_splits_ == 3
    for member in clf.members_:
        assert (
            member["network"].get_params().items()
            >= {
                param: value
                for param, value in clf.best_params_.items()
                if param != "encoding"
            }.items()
        )


def test_scores_are_those_of_the_members_on_their_folds(noisy, fitted):
    X, y = noisy
    for k, (_, valid) in enumerate(KFold(4).split(X)):
        score = fitted.members_[k].score(X[valid], y[valid])
        assert fitted.cv_results_[f"split{k}_test_score"][0] == pytest.approx(score)


@pytest.mark.parametrize(
    "scoring",
    ["neg_log_loss", "roc_auc_ovr", make_scorer(recall_score, average="macro")],
)
def test_any_scorer_may_choose(noisy, scoring):
    X, y = noisy
    clf = make(scoring=scoring, cv=KFold(3), lr=[1e-5, 0.02]).fit(X, y)
    assert clf.best_params_["lr"] == 0.02
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    for k, (_, valid) in enumerate(KFold(3).split(X)):
        alone = copy.copy(clf)
        alone.members_ = [clf.members_[k]]
        expected = scorer(alone, X[valid], y[valid])
        found = clf.cv_results_[f"split{k}_test_score"][1]
        assert found == pytest.approx(expected)


def test_the_best_size_is_found():
    X, y = make_moons(400, noise=0.1, random_state=0)
    clf = make(hidden_units=[(), (1,), 16], max_epochs=60).fit(X, y)
    assert clf.best_params_["hidden_units"] == 16
    assert clf.best_score_ > 0.98
    assert clf.cv_results_["mean_test_score"][0] < 0.9


CHOICE = make(hidden_units="auto", max_epochs="auto", encoding="auto").get_params()


def candidates(n_samples=1000, n_features=4, is_sparse=False, **params):
    return make_candidates(
        CHOICE | params,
        "TorchBlobClassifierCV",
        n_samples=n_samples,
        n_features=n_features,
        is_sparse=is_sparse,
    )


def test_the_default_candidates_are_two_encodings_and_a_second_size():
    found = candidates()
    assert [(c["hidden_units"], c["encoding"]) for c in found] == [
        (64, "standard"),
        ((128,), "standard"),
        (64, "piecewise_linear"),
    ]
    assert [(c["activation"], c["lr"]) for c in found[1:3]] == [
        ("silu", 0.02),
        ("relu", 0.004),
    ]
    assert len(candidates(n_features=256)) == 3
    for kwargs in ({"is_sparse": True}, {"n_features": 257}):
        assert {c["encoding"] for c in candidates(**kwargs)} == {"standard"}


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "epochs"),
    [(100, 128, 200), (5000, 128, 50), (1000, None, 200), (10**6, 128, 10)],
)
def test_epochs_make_two_thousand_steps_within_bounds(n_samples, batch_size, epochs):
    (first, *_) = candidates(n_samples, batch_size=batch_size)
    assert first["max_epochs"] == epochs


def test_epochs_follow_the_largest_part_that_is_trained_on(noisy):
    folds = [(range(50), range(50, 300)), (range(299), [299])]
    clf = make(cv=folds, batch_size=10, max_epochs="auto").fit(*noisy)
    assert clf.best_params_["max_epochs"] == 67  # 2000 steps, 30 an epoch


def test_when_time_is_over_before_a_candidate_has_a_score_the_next_one_begins(noisy):
    with pytest.warns(FitFailedWarning):
        clf = make(lr=[1e30, 0.01, 0.02], time_limit=1e-9).fit(*noisy)
    assert clf.best_params_["lr"] == 0.01
    assert len(clf.cv_results_["params"]) == 2


def test_when_time_is_over_no_other_candidate_begins(noisy, stacks):
    grid = {"hidden_units": [4, 8], "lr": [0.01, 0.02]}
    clf = make(**grid, time_limit=1e-9).fit(*noisy)
    assert stacks == [5]
    assert len(clf.cv_results_["params"]) == 1
    assert clf.best_index_ == 0
    clf = make(**grid, time_limit=1e9).fit(*noisy)
    assert len(clf.cv_results_["params"]) == 4


def test_a_refit_is_one_network_on_all_rows_for_the_mean_of_the_best_epochs(noisy):
    X, y = noisy
    folds = make(lr=[1e-5, 0.05]).fit(X, y)
    clf = make(lr=[1e-5, 0.05], refit=True).fit(X, y)
    assert clf.best_params_ == folds.best_params_
    assert clf.temperature_ == folds.temperature_
    np.testing.assert_array_equal(clf.oof_proba_, folds.oof_proba_)
    (member,) = clf.members_
    network, encoder = member["network"], member["encoder"]
    epochs = [one["network"].best_epoch_ for one in folds.members_]
    assert network.n_iter_ == network.max_epochs == round(np.mean(epochs))
    np.testing.assert_array_equal(
        encoder.transform(X), clone(encoder).fit(X).transform(X)
    )
    assert clf.score(X, y) > 0.7
    with pytest.raises(
        ValueError, match=r"disagreement needs two members.*refit=False"
    ):
        clf.disagreement(X)


def test_the_temperature_is_the_one_by_which_logits_are_too_large():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    ones = np.ones(len(codes))
    for factor in (0.3, 1.0, 4.0):
        found = fit_temperature(factor * logits, codes, ones)
        assert found == pytest.approx(factor, rel=0.05)
    half = np.where(np.arange(len(codes)) < 10_000, 0.0, 1.0)
    assert fit_temperature(logits, codes, half) == pytest.approx(
        fit_temperature(logits[10_000:], codes[10_000:], ones[10_000:]), rel=1e-4
    )


def test_rows_that_are_all_right_leave_a_doubt():
    logits = np.eye(3)[np.arange(90) % 3]
    temperature = fit_temperature(logits, np.arange(90) % 3, np.ones(90))
    assert softmax(logits / temperature, axis=1).max() == pytest.approx(0.999, abs=1e-4)


def test_probabilities_are_calibrated_on_what_is_out_of_fold(noisy):
    X, y = noisy
    clf = make(hidden_units=32, label_smoothing=0.3, max_epochs=60).fit(X, y)
    plain = make(
        hidden_units=32, label_smoothing=0.3, max_epochs=60, calibrate=False
    ).fit(X, y)
    assert plain.temperature_ == 1.0
    assert clf.temperature_ < 0.8  # smoothing makes networks less sure than they are
    assert log_loss(y, clf.oof_proba_) < log_loss(y, plain.oof_proba_) - 0.01


def test_the_temperature_counts_rows_by_their_weight_in_the_loss(noisy):
    X, y = noisy
    weight = np.random.default_rng(0).uniform(0.01, 1, 300) ** 4
    by_class = {0: 1.0, 1: 0.0, 2: 2.0}
    params = {"max_epochs": 60, "hidden_units": 16, "class_weight": by_class}
    clf = make(cv=KFold(3), **params).fit(X, y, weight)
    of_each = [
        member.predict_log_proba(X[valid])
        for member, (_, valid) in zip(clf.members_, KFold(3).split(X), strict=True)
    ]
    weight = weight * [by_class[label] for label in y]
    expected = fit_temperature(np.concatenate(of_each), y, weight)
    assert clf.temperature_ == pytest.approx(expected, rel=1e-3)
    unweighted = fit_temperature(np.concatenate(of_each), y, np.ones(300))
    assert clf.temperature_ != pytest.approx(unweighted, rel=0.05)


def test_disagreement_is_the_divergence_of_the_members(noisy, fitted):
    X, _ = noisy
    of_each = [np.exp(log_proba_of(fitted, m, X)) for m in fitted.members_]
    expected = entropy(np.mean(of_each, axis=0), axis=1) - np.mean(
        [entropy(proba, axis=1) for proba in of_each], axis=0
    )
    found = fitted.disagreement(X)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (found >= 0).all()
    assert fitted.disagreement(100 * X).mean() > 2 * found.mean()


def test_raw_columns_of_any_unit_and_tail_are_learned():
    X, y = make_moons(600, noise=0.2, random_state=0)
    X = np.exp(4 * X) * [1e9, 1e-9]
    X[::50] *= 1e6
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    clf = make(hidden_units=32, encoding="auto", max_epochs=100).fit(X_train, y_train)
    assert clf.score(X_test, y_test) > 0.93
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = make_pipeline(StandardScaler(), MLPClassifier(random_state=0))
        assert mlp.fit(X_train, y_train).score(X_test, y_test) < 0.8


def test_the_defaults_do_well_on_real_data():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, random_state=0
    )
    clf = TorchBlobClassifierCV(device="cpu", random_state=0).fit(X_train, y_train)
    assert len(clf.cv_results_["params"]) == 3
    assert clf.score(X_test, y_test) > 0.97
    assert log_loss(y_test, clf.predict_proba(X_test)) < 0.12


@pytest.mark.parametrize("kind", ["strings", "frame", "tensors", "lists", "bools"])
def test_what_a_classifier_takes_it_takes(noisy, kind):
    X, y = noisy
    y = y > 0 if kind == "bools" else y
    expected = make().fit(X, y).predict_proba(X)
    names = list("abcde")
    X_of, y_of = {
        "strings": (X, np.array(["a", "b", "c"])[y.astype(int)]),
        "frame": (pd.DataFrame(X, columns=names), pd.Series(y, index=y)),
        "tensors": (torch.from_numpy(X), torch.from_numpy(y)),
        "lists": (X.tolist(), y.tolist()),
        "bools": (X, y),
    }[kind]
    clf = make().fit(X_of, y_of)
    np.testing.assert_array_equal(clf.predict_proba(X_of), expected)
    np.testing.assert_array_equal(clf.classes_, np.unique(np.asarray(y_of)))
    assert set(clf.predict(X_of)) <= set(clf.classes_.tolist())
    assert clf.score(X_of, y_of) > 0.6
    if kind == "frame":
        assert clf.feature_names_in_.tolist() == names


def test_sparse_rows_are_scaled_and_learned(noisy):
    X, y = noisy
    X = sparse.csr_array(np.where(np.abs(X) > 1, 1e6 * X, 0))
    clf = make(encoding="auto", hidden_units=16).fit(X, y)
    assert clf.best_params_["encoding"] == "standard"
    assert clf.score(X, y) > 0.6
    np.testing.assert_allclose(
        clf.predict_proba(X.toarray()), clf.predict_proba(X), atol=1e-6
    )


@pytest.mark.usefixtures("dispatch")
def test_tensors_come_back_where_scikit_learn_dispatches(noisy):
    X, y = (torch.from_numpy(part) for part in noisy)
    clf = make().fit(X, y)
    found, expected = (
        (clf.predict_proba(rows), clf.predict(rows), clf.disagreement(rows))
        for rows in (X, noisy[0])
    )
    for output, array in zip(found, expected, strict=True):
        assert isinstance(output, torch.Tensor)
        np.testing.assert_array_equal(output.numpy(), array)


@pytest.mark.parametrize(
    ("dtype", "of_data", "of_network"),
    [
        ("auto", np.float64, np.float64),
        ("auto", np.float32, np.float32),
        ("auto", np.int64, np.float32),
        ("float32", np.float64, np.float32),
        ("float64", np.float32, np.float64),
    ],
)
def test_the_precision_is_that_of_the_data_or_as_asked_for(
    noisy, dtype, of_data, of_network
):
    X, y = noisy
    clf = make(dtype=dtype).fit((10 * X).astype(of_data), y)
    assert clf.predict_proba(X).dtype == of_network
    assert clf.oof_proba_.dtype == of_network
    assert (
        clf.members_[0]["network"].module_.linear_layers[0].weight.dtype
        == {
            np.float32: torch.float32,
            np.float64: torch.float64,
        }[of_network]
    )


def test_rows_of_weight_zero_are_no_part_of_it(noisy):
    X, y = noisy
    X = X.copy()
    kept = np.arange(len(y)) % 4 > 0
    X[~kept] = np.nan
    clf = make().fit(X, y, kept.astype(float))
    expected = make().fit(X[kept], y[kept])
    np.testing.assert_array_equal(
        clf.predict_proba(X[kept]), expected.predict_proba(X[kept])
    )
    np.testing.assert_array_equal(clf.oof_proba_[kept], expected.oof_proba_)
    assert np.isnan(clf.oof_proba_[~kept]).all()


def test_weights_count_in_the_scores(noisy):
    X, y = noisy
    weight = np.random.default_rng(0).uniform(0.1, 1e300, len(y))
    clf = make(cv=KFold(3)).fit(X, y, weight)
    with_scorer = make(cv=KFold(3), scoring="accuracy").fit(X, y, weight)
    for k, (_, valid) in enumerate(KFold(3).split(X)):
        predicted = clf.members_[k].predict(X[valid])
        expected = accuracy_score(
            y[valid], predicted, sample_weight=weight[valid] / 1e300
        )
        for one in (clf, with_scorer):
            found = one.cv_results_[f"split{k}_test_score"][0]
            assert found == pytest.approx(expected)


def test_weights_count_in_no_scorer_that_does_not_take_them(noisy):
    X, y = noisy
    weight = np.random.default_rng(0).uniform(0.1, 9, 300)
    for scoring in ("rand_score", lambda clf, X, y: clf.score(X, y)):
        clf = make(cv=KFold(3), scoring=scoring).fit(X, y, weight)
        assert np.isfinite(clf.best_score_)


def test_rows_whose_weights_are_too_small_to_count_are_no_part_of_it(noisy):
    X, y = noisy
    weight = np.where(np.arange(300) % 2, 1e300, 1e-300)
    clf = make().fit(X, y, weight)
    expected = make().fit(X[1::2], y[1::2])
    np.testing.assert_allclose(
        clf.predict_proba(X), expected.predict_proba(X), rtol=1e-6
    )


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 12.0}])
def test_weights_of_classes_raise_the_recall_of_a_rare_one(class_weight):
    X, y = make_classification(600, 5, weights=[0.92], flip_y=0.05, random_state=0)
    recalls = [
        recall_score(y, make(class_weight=w).fit(X, y).oof_proba_.argmax(1))
        for w in (None, class_weight)
    ]
    assert recalls[1] > recalls[0] + 0.1


def test_a_class_without_weight_is_never_predicted(noisy):
    X, y = noisy
    clf = make(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(X, y)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert set(clf.predict(X)) == {1, 2}
    assert np.isfinite(clf.temperature_)


def test_a_class_that_a_fold_does_not_train_on_has_no_probability_there(noisy):
    X, y = noisy
    y = np.where(np.arange(len(y)) == 7, 3, y)
    clf = make(cv=KFold(3)).fit(X, y)
    assert [len(member.classes_) for member in clf.members_] == [3, 4, 4]
    proba = clf.predict_proba(X)
    assert proba.shape == (300, 4)
    assert np.isfinite(clf.predict_log_proba(X)).all()
    np.testing.assert_allclose(proba.sum(1), 1)
    assert not clf.oof_proba_[:100, 3].any()
    assert np.isfinite(clf.temperature_)
    assert np.isfinite(clf.disagreement(X)).all()


def test_classes_that_folds_lack_leave_the_temperature_to_the_others(noisy):
    X, y = noisy
    rare = y.copy()
    rare[:10] = np.arange(3, 13)
    params = {"hidden_units": 32, "max_epochs": 60}
    with pytest.warns(UserWarning, match="least populated class"):
        clf = make(**params).fit(X, rare)
    assert clf.temperature_ == pytest.approx(
        make(**params).fit(X[10:], y[10:]).temperature_, rel=0.2
    )
    assert clf.temperature_ < 0.9


def test_few_rows_of_many_classes_are_learned_without_a_word():
    y = np.arange(150) // 6
    X = np.random.default_rng(0).normal(scale=0.3, size=(150, 2)) + np.c_[y % 5, y // 5]
    clf = make(hidden_units=32, max_epochs=60).fit(X, y)
    assert clf.score(X, y) > 0.6
    dates = y.astype("datetime64[D]")
    by_date = make(hidden_units=32, max_epochs=60, class_weight="balanced")
    np.testing.assert_array_equal(
        by_date.fit(X, dates).predict(X), clf.predict(X).astype("datetime64[D]")
    )


def test_rows_in_several_folds_are_averaged_and_in_none_are_nan(noisy):
    X, y = noisy
    splitter = ShuffleSplit(4, test_size=0.3, random_state=0)
    clf = make(cv=splitter).fit(X, y)
    expected, n = np.zeros((300, 3)), np.zeros(300)
    for member, (_, valid) in zip(clf.members_, splitter.split(X), strict=True):
        expected[valid] += np.exp(log_proba_of(clf, member, X[valid]))
        n[valid] += 1
    assert set(n) >= {0, 1, 2}
    np.testing.assert_allclose(clf.oof_proba_[n > 0], expected[n > 0] / n[n > 0, None])
    assert np.isnan(clf.oof_proba_[n == 0]).all()
    assert (
        len(
            make(cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0))
            .fit(X, y)
            .members_
        )
        == 4
    )


def test_an_int_shuffles_the_folds_and_keeps_the_share_of_each_class():
    X, y = make_moons(100, shuffle=False, random_state=0)  # sorted by class
    clf = make(cv=4).fit(X, y)
    assert clf.n_splits_ == 4
    assert np.isfinite(clf.oof_proba_).all()
    assert min(clf.cv_results_[f"split{k}_test_score"][0] for k in range(4)) > 0.5
    assert make(cv=None).fit(X, y).n_splits_ == 5


def test_folds_may_be_given_as_masks_and_count_all_rows(noisy):
    X, y = noisy
    weight = np.where(np.arange(300) % 5, 1.0, 0.0)
    folds = [(np.arange(300) % 3 != k, np.arange(300) % 3 == k) for k in range(3)]
    indices = [tuple(np.flatnonzero(part) for part in fold) for fold in folds]
    masks = make(cv=folds).fit(X, y, weight)
    np.testing.assert_array_equal(
        masks.oof_proba_, make(cv=indices).fit(X, y, weight).oof_proba_
    )


def test_an_array_holds_candidates_as_a_list_does(noisy):
    clf = make(hidden_units=np.array([4, 8]), lr=np.array([0.01, 0.02])).fit(*noisy)
    assert clf.cv_results_["param_hidden_units"].tolist() == [4, 4, 8, 8]
    assert clf.cv_results_["param_lr"].tolist() == [0.01, 0.02] * 2
    assert clf.device_ == torch.device("cpu")


def test_groups_stay_together(noisy):
    X, y = noisy
    groups = np.arange(300) // 30
    clf = make(cv=GroupKFold(5)).fit(X, y, groups=groups)
    by_hand = make(cv=list(GroupKFold(5).split(X, y, groups))).fit(X, y)
    np.testing.assert_array_equal(clf.oof_proba_, by_hand.oof_proba_)
    with pytest.raises(ValueError, match=r"keeps groups apart.*cv=5: use .*GroupKFold"):
        make().fit(X, y, groups=groups)


def test_the_seed_decides_everything(noisy):
    X, y = noisy
    one, again, other = (make(random_state=s).fit(X, y) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), again.predict_proba(X))
    assert (one.predict_proba(X) != other.predict_proba(X)).any()
    fresh = [make(random_state=None).fit(X, y).predict_proba(X) for _ in range(2)]
    assert (fresh[0] != fresh[1]).any()
    seeds = {member["network"].random_state for member in one.members_}
    assert len(seeds) == 5


def test_a_candidate_that_diverges_is_left_out_with_a_warning(noisy):
    X, y = noisy
    clf = make(lr=[0.02, 1e30])
    with pytest.warns(
        FitFailedWarning, match=r"loss became.*'lr': 1e\+30.*lower its"
    ) as seen:
        clf.fit(X, y)
    assert seen[0].filename == __file__
    assert np.isnan(clf.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert clf.cv_results_["rank_test_score"].tolist() == [1, 2]
    before = clf.predict_proba(X)
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="needs a candidate that can be trained"),
    ):
        clf.set_params(lr=1e30).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_a_refit_that_diverges_leaves_the_last_model(noisy, monkeypatch):
    def fail(*args):
        raise DivergedError("the training loss became nan")

    clf = make().fit(*noisy)
    before = clf.predict_proba(noisy[0])
    monkeypatch.setattr(CrossValidation, "train_on_all", fail)
    with pytest.raises(ValueError, match=r"became nan, when .* or use refit=False"):
        clf.set_params(refit=True).fit(*noisy)
    np.testing.assert_array_equal(clf.predict_proba(noisy[0]), before)


def test_networks_that_have_not_learned_are_a_warning(noisy):
    X, y = noisy
    with pytest.warns(
        ConvergenceWarning, match=r"have not learned.* lr, now 1000000"
    ) as seen:
        make(lr=1e6).fit(X, y)
    assert seen[0].filename == __file__


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_ends_a_fit_and_leaves_the_last_model(noisy):
    X, y = noisy
    clf = make().fit(X, y)
    before = clf.predict_proba(X)

    with pytest.raises(KeyboardInterrupt), ctrl_c_after(0.5):
        clf.set_params(max_epochs=10**6).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_it_can_be_searched_nested_and_pickled(noisy):
    X, y = noisy
    search = GridSearchCV(make(), {"dropout": [0.0, 0.5]}, cv=2)
    expected = search.fit(X, y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="torchblob"):
        found = clone(search).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)
    pipe = make_pipeline(StandardScaler(), make()).fit(X, y)
    copy = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(copy.predict_proba(X), pipe.predict_proba(X))


@pytest.mark.parametrize(
    "outside", [{"n_jobs": 1}, {"backend": "threading", "n_jobs": 2}, {"verbose": 9}]
)
def test_what_is_chosen_for_joblib_outside_leaves_the_stacks(
    noisy, stacks, outside, capfd
):
    with joblib.parallel_config(**outside):
        make().fit(*noisy)
    assert stacks == [5]
    assert capfd.readouterr() == ("", "")


def test_fits_in_several_threads_leave_the_filters_of_warnings(noisy):
    expected = make().fit(*noisy).predict_proba(noisy[0])
    before = list(warnings.filters)
    found = []

    def fit():
        found.append(make().fit(*noisy).predict_proba(noisy[0]))

    threads = [threading.Thread(target=fit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for proba in found:
        np.testing.assert_array_equal(proba, expected)
    assert warnings.filters == before


def test_fits_of_an_outer_cross_validation_train_together(noisy, stacks):
    with joblib.parallel_config(backend="torchblob"):
        cross_val_score(make(), *noisy, cv=KFold(3))
    assert stacks == [15]


def test_progress_is_a_line_for_each_candidate(noisy, capsys):
    make(hidden_units=[4, 8], verbose=1).fit(*noisy)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[TorchBlobClassifierCV] 1/2 hidden_units=4: score 0.")
    assert lines[2].startswith("[TorchBlobClassifierCV] best: hidden_units=")
    make(hidden_units=[4, 8], verbose=1, time_limit=1e-9).fit(*noisy)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("1 of 2 candidates not tried: time_limit=1e-09 is over")
    make(verbose=1).fit(*noisy)
    assert "1/1 the only candidate: score" in capsys.readouterr().out
    make().fit(*noisy)
    assert not capsys.readouterr().out


BAD = {
    "no number": ({"lr": "fast"}, "'lr' parameter of TorchBlobClassifierCV.*'fast'"),
    "auto in a list": ({"dropout": ["auto"]}, r"'dropout' parameter.*Got \['auto'\]"),
    "nothing to choose": (
        {"hidden_units": []},
        "'hidden_units' .*, a list of such values or 'auto'. Got []",
    ),
    "twice the same": ({"hidden_units": [64, 64]}, "candidates that differ.* tuple"),
    "one of a list": (
        {"activation": ["relu", "foo"]},
        r"'activation' .* Got \['relu', 'foo'\]",
    ),
    "encoding": ({"encoding": "foo"}, "'encoding' parameter .*'piecewise_linear'"),
    "encodings": (
        {"encoding": ["standard", 3]},
        r"'encoding' parameter .*Got \['standard', 3\]",
    ),
    "batch size": ({"batch_size": 0}, "'batch_size' parameter .* None or an int >= 1"),
    "epochs": ({"max_epochs": 0}, "'max_epochs' parameter of TorchBlobClassifierCV"),
    "loss": ({"scoring": "loss"}, "'scoring' parameter .*get_scorer_names"),
    "time": ({"time_limit": 0}, "'time_limit' parameter .* in seconds. Got 0"),
    "not a time": ({"time_limit": float("nan")}, "'time_limit' parameter .* Got nan"),
    "many folds": ({"cv": 301}, "TorchBlobClassifierCV, with cv=301: .*splits"),
    "no folds": ({"cv": []}, r"with cv=\[\]: at least one fold is needed"),
    "no such row": ({"cv": [([0, 1], [300])]}, "with cv=.*300 is out of bounds"),
    "a short mask": ({"cv": [([True], [False])]}, "with cv=.*boolean index"),
    "no number as score": (
        {"scoring": lambda *args: None},
        "'scoring' parameter .*each",
    ),
    "no scorer": ({"scoring": accuracy_score}, "'scoring' parameter .*estimator, X, y"),
    "empty fold": ({"cv": [(range(300), [])]}, "needs rows of its own.* has 0 rows"),
    "one class": (
        {"cv": [([0], range(1, 300))]},
        "Fold 0 .* of the classes .*fewer folds",
    ),
    "a set of widths": ({"hidden_units": {8, 4}}, "'hidden_units' parameter .*'tuple'"),
    "class weight's name": ({"class_weight": "balance"}, "'class_weight' .*'balanced'"),
    "device": ({"device": "cuda:99"}, "'device' parameter of TorchBlobClassifierCV"),
    "dtype": ({"dtype": "float16"}, "'dtype' parameter of TorchBlobClassifierCV"),
    "class_weight": ({"class_weight": {9: 1.0}}, "'class_weight' parameter of Torch"),
}


@pytest.mark.parametrize(("params", "message"), BAD.values(), ids=BAD)
def test_an_error_says_what_is_needed_and_what_was_given(noisy, params, message):
    X, y = noisy
    clf = make().fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=message.replace("[]", r"\[\]")):
        clf.set_params(**params).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_data_that_are_unfit_are_an_error_about_the_row(noisy):
    X, y = noisy
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"NaN, at row 7, column 2 .*ClassifierCV needs"
    ):
        make().fit(bad, y)
    clf = make().fit(X, y)
    with pytest.raises(
        ValueError, match=r"NaN, at row 7, column 2 .*ClassifierCV needs"
    ):
        clf.predict(bad)
    with pytest.raises(ValueError, match="ClassifierCV needs at least two classes"):
        make().fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match=r"encoding='piecewise_linear'. Got a sparse"):
        make(encoding=["standard", "piecewise_linear"]).fit(sparse.csr_array(X), y)
    with pytest.raises(
        ValueError, match=r"each fold, .* \[0, 1, 2\] here. Got 'roc_auc', which"
    ):
        make(scoring="roc_auc").fit(X, y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "disagreement"])
def test_before_a_fit_there_is_nothing_to_ask(method):
    with pytest.raises(NotFittedError, match="This TorchBlobClassifierCV instance"):
        getattr(make(), method)([[0.0]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_networks_are_trained_where_the_user_wants_them(noisy):
    X, y = noisy
    here = make().fit(X.astype(np.float32), y)
    there = make(device="cuda").fit(torch.from_numpy(X).float().cuda(), y)
    assert there.device_.type == "cuda"
    np.testing.assert_allclose(
        there.predict_proba(X), here.predict_proba(X), rtol=1e-2, atol=1e-2
    )
    with config_context(array_api_dispatch=True):
        proba = there.predict_proba(torch.from_numpy(X).cuda())
    assert proba.device.type == "cuda"
