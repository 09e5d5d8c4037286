"""scikit-learn's own checks, none skipped and none expected to fail by habit."""

import inspect
from functools import partial

import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    estimator_checks_generator,
)

from torchblob import TorchBlobClassifier, TorchBlobClassifierCV
from torchblob._encoder import ColumnEncoder

FULL_BATCH = {
    "default": {},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "momentum and weight decay": {"momentum": 0.9, "weight_decay": 1e-3},
    "tanh": {"activation": "tanh"},
    # One check trains on data with a standard deviation of 20 and weights of 1000 and
    # 0.0001. At lr=0.1 gradient descent on a linear model jumps past the boundary it
    # asks for in one step, whatever the implementation.
    "no hidden layer": {"hidden_units": (), "momentum": 0.9, "lr": 0.01},
    "three layers": {"hidden_units": (16, 16, 16)},
}
RANDOM = {
    "batches": {"batch_size": 4, "max_epochs": 50},
    "dropout": {"dropout": 0.2},
    "early stopping": {"early_stopping": True},
    "early stopping on a score": {
        "early_stopping": True,
        "scoring": "accuracy",
        "optimizer": "adam",
        "lr": 0.05,
    },
}
WEIGHT_EQUIVALENCE = "check_sample_weight_equivalence_"


@pytest.fixture(autouse=True)
def _global_state_is_left_alone():
    """Replace the fixture for all tests: a check itself draws from numpy's state."""


def name_of(check):
    while isinstance(check, partial):
        check = check.func
    return check.__name__


CROSS_VALIDATED = {
    "chosen": {},
    "refit": {"refit": True, "hidden_units": 16, "encoding": "standard"},
    "not calibrated": {"calibrate": False, "hidden_units": (), "batch_size": None},
}
ENCODED = {
    "standard": {},
    "piecewise linear": {"encoding": "piecewise_linear"},
}


def checks(configurations, kind=TorchBlobClassifier, left_out="nothing"):
    for name, params in configurations.items():
        estimator = kind(**params)
        if "device" in estimator.get_params():
            estimator.set_params(device="cpu")
        for i, (instance, check) in enumerate(estimator_checks_generator(estimator)):
            if left_out not in name_of(check):
                yield pytest.param(instance, check, id=f"{name}-{i}-{name_of(check)}")


@pytest.mark.parametrize(
    ("estimator", "check"),
    # A repeated row is drawn into batches, masks and validation sets twice, a row of
    # weight 2 once: no learner that draws rows can pass the checks of equivalence.
    [
        *checks(FULL_BATCH),
        *checks(RANDOM, left_out=WEIGHT_EQUIVALENCE),
        *checks(CROSS_VALIDATED, TorchBlobClassifierCV),
        *checks(ENCODED, ColumnEncoder),
    ],
)
# Some checks train on data made to be hard, for which 100 epochs are not enough.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# Nor have all of them five rows of each class.
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_scikit_learn_check_passes(estimator, check):
    assert check(estimator) is None


def test_only_the_two_checks_of_weight_equivalence_are_left_out():
    estimator = TorchBlobClassifier()
    everything = [name_of(check) for _, check in estimator_checks_generator(estimator)]
    left_out = {name for name in everything if WEIGHT_EQUIVALENCE in name}
    assert left_out == {
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    }
    assert len(everything) > 50


@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_check_outside_of_check_estimator_passes(check):
    assert check("TorchBlobClassifier", TorchBlobClassifier(device="cpu")) is None


def test_every_parameter_has_a_constraint_of_its_type():
    parameters = set(inspect.signature(TorchBlobClassifier).parameters)
    assert set(TorchBlobClassifier._parameter_constraints) == parameters
