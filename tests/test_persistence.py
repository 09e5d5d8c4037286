"""Files of classifiers: nothing is lost, nothing is run, whatever is in them."""

import errno
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
import workers
from helpers import weights
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch.nn.utils import prune

import torchblob
from torchblob import TorchBlobClassifier

DATA = Path(__file__).parent / "data"

LABELS = {
    "strings": np.array(["ant", "bee", "käfer"]),
    "int64": np.array([-3, 5, 2**40]),
    "uint8": np.array([0, 7, 255], dtype=np.uint8),
    "uint64": np.array([1, 2**63, 2**64 - 1], dtype=np.uint64),
    "big-endian": np.array([1, 2, 300], dtype=">i2"),
    "float32": np.array([0.0, 1.0, 2.0], dtype=np.float32),
    "dates": np.array(["2020-01-01", "2021-06-01", "2022-01-01"], dtype="M8[D]"),
    "durations": np.array([1, 2, 30], dtype="m8[s]"),
}


def fit(X, y, **params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params).fit(X, y)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def reload(clf, path, device="cpu"):
    torchblob.save(clf, path)
    return torchblob.load(path, device)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"hidden_units": (5, 4), "activation": "tanh", "optimizer": "adam", "lr": 0.01},
        {"hidden_units": [], "dtype": "float32", "early_stopping": True},
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}, "momentum": 0.9, "batch_size": 32},
        {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5, "dropout": 0.2},
        {"optimizer": "adamw", "weight_decay": 0.1, "lr_schedule": "cosine"},
        {"hidden_units": np.array([3, 2]), "label_smoothing": 0.1, "verbose": True},
        {"lr": np.float64(0.05), "max_epochs": np.int64(7), "verbose": np.bool_(False)},
    ],
    ids=lambda params: ", ".join(params) or "default",
)
def test_a_loaded_classifier_is_the_one_that_was_saved(small, path, params, capsys):
    X, y = small
    clf = fit(X, y, **params)
    same = reload(clf, path)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        np.testing.assert_array_equal(getattr(same, method)(X), getattr(clf, method)(X))
    assert repr(same.get_params()) == repr(
        {
            name: value.tolist() if hasattr(value, "tolist") else value
            for name, value in clf.get_params().items()
        }
    )
    assert same.history_.to_list() == clf.history_.to_list()
    assert same.best_epoch_ == clf.best_epoch_
    assert same.n_features_in_ == 4
    assert not hasattr(same, "feature_names_in_")
    for estimator in (clf, same):
        estimator.partial_fit(X, y).set_params(warm_start=True).fit(X, y)
    assert torch.equal(weights(same), weights(clf))
    assert len(same.history_) == len(clf.history_)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_any_type_come_back_as_they_were(small, path, labels):
    X, y = small
    clf = fit(X, labels[y])
    same = reload(clf, path)
    assert same.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(same.classes_, labels)
    np.testing.assert_array_equal(same.predict(X), clf.predict(X))


def test_bools_come_back_as_bools(small, path):
    X, y = small
    same = reload(fit(X, y == 1), path)
    assert same.classes_.tolist() == [False, True]
    assert same.predict(X).dtype == bool


def test_names_of_features_are_kept(small, path):
    X, y = small
    frame = pd.DataFrame(X, columns=["länge", "b", "c", 'd"'])
    clf = fit(frame, y)
    same = reload(clf, path)
    assert same.feature_names_in_.tolist() == ["länge", "b", "c", 'd"']
    np.testing.assert_array_equal(same.predict_proba(frame), clf.predict_proba(frame))
    with pytest.raises(ValueError, match="feature names"):
        same.predict(frame.rename(columns={"b": "e"}))


def test_frozen_layers_stay_frozen(small, path):
    clf = fit(*small, momentum=0.9)
    clf.module_.linear_layers[0].requires_grad_(False)
    clf.partial_fit(*small)
    same = reload(clf, path)
    first = same.module_.linear_layers[0].weight
    before = first.clone()
    for estimator in (clf, same):
        estimator.partial_fit(*small)
    assert torch.equal(first, before)
    assert torch.equal(weights(same), weights(clf))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_device_is_where_it_is_loaded(small, path, device):
    clf = fit(*small, device=device)
    assert reload(clf, path, torch.device("cpu")).device == torch.device("cpu")
    assert reload(clf, path, "auto").device == "auto"
    with pytest.raises(ValueError, match=r"torchblob\.load must be 'auto' or a device"):
        torchblob.load(path, "cuda:99")


def test_a_network_of_float64_is_loaded_on_the_cpu_since_mps_has_none(
    small, path, monkeypatch
):
    clf = fit(*small)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    same = reload(clf, path, "auto")
    assert same.device_ == torch.device("cpu")
    assert torch.equal(weights(same), weights(clf))
    with pytest.raises(ValueError, match="network is of float64, which MPS devices la"):
        torchblob.load(path, "mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("way", [("cpu", "cuda"), ("cuda", "cpu")])
def test_predictions_are_the_same_on_another_device(small, path, way):
    X, y = small
    clf = fit(X, y, device=way[0])
    same = reload(clf, path, way[1])
    assert same.device_.type == way[1]
    np.testing.assert_allclose(same.predict_proba(X), clf.predict_proba(X), rtol=1e-5)


def test_a_file_of_the_first_format_can_be_loaded():
    clf = torchblob.load(DATA / "format_1.safetensors", "cpu")
    assert clf.classes_.tolist() == ["ant", "bee", "cat"]
    assert clf.get_params()["hidden_units"] == (3, 2)
    assert (clf.n_iter_, clf.best_epoch_) == (5, 5)
    rows = pd.DataFrame([[0.5, -1.0], [2.0, 2.0]], columns=["length", "width"])
    expected = [
        [0.5578508679662796, 0.1856054242249044, 0.2565437078088160],
        [0.4744031185925304, 0.2730408925634208, 0.2525559888440489],
    ]
    np.testing.assert_allclose(clf.predict_proba(rows), expected, rtol=1e-9)
    clf.partial_fit(pd.concat([rows] * 2), ["ant", "bee", "cat", "cat"])
    assert clf.n_iter_ == 6


def nadam(params, lr, weight_decay):
    return torch.optim.NAdam(params, lr, weight_decay=weight_decay)


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": nadam},
        {"callbacks": [Callback()]},
        {"random_state": np.random.RandomState(0)},
        {"early_stopping": True, "scoring": lambda clf, X, y: clf.score(X, y)},
    ],
    ids=lambda params: [*params][-1],
)
def test_code_is_not_saved_but_the_network_can_be(small, path, params):
    X, y = small
    name = [*params][-1]
    clf = fit(X, y, **params)
    with pytest.raises(ValueError, match=rf"torchblob\.save .*{name} is .*set_params"):
        torchblob.save(clf, path)
    assert not path.exists()
    default = TorchBlobClassifier().get_params()[name]
    same = reload(clf.set_params(**{name: default}), path)
    np.testing.assert_array_equal(same.predict_proba(X), clf.predict_proba(X))
    same.partial_fit(X, y)


def test_only_a_fitted_classifier_is_saved(small, path):
    with pytest.raises(NotFittedError):
        torchblob.save(TorchBlobClassifier(), path)
    pipeline = make_pipeline(TorchBlobClassifier(max_epochs=2)).fit(*small)
    with pytest.raises(TypeError, match="Got Pipeline"):
        torchblob.save(pipeline, path)
    clf = fit(*small).set_params(lr=-1)
    with pytest.raises(ValueError, match="'lr' parameter"):
        torchblob.save(clf, path)
    clf.set_params(lr=0.1)
    clf.history_[-1]["matrix"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match="the history's matrix is"):
        torchblob.save(clf, path)


def test_a_net_that_was_changed_by_code_is_not_saved(small, path):
    clf = fit(*small)
    clf.net_.set_params(train_split=sorted)
    with pytest.raises(ValueError, match="train_split of the net is <built-in"):
        torchblob.save(clf, path)
    clf = fit(*small)
    clf.module_.float()
    with pytest.raises(ValueError, match=r"not of torch\.float64 any longer"):
        torchblob.save(clf, path)
    clf = fit(*small)
    clf.module_.linear_layer_stack[1] = torch.nn.Tanh()
    with pytest.raises(ValueError, match="a layer of the network was changed"):
        torchblob.save(clf, path)
    clf = fit(*small)
    prune.l1_unstructured(clf.module_.linear_layers[0], "weight", amount=2)
    with pytest.raises(ValueError, match="layer 0 is none: it is computed"):
        torchblob.save(clf, path)
    assert not path.exists()
    prune.remove(clf.module_.linear_layers[0], "weight")
    same = reload(clf, path)
    np.testing.assert_array_equal(same.predict(small[0]), clf.predict(small[0]))


def test_names_of_classes_that_no_load_would_take_are_an_error(
    small, path, monkeypatch
):
    X, y = small
    clf = fit(X, np.array(["a", "b", "c" * 100])[y])
    monkeypatch.setattr(torchblob._model_file, "MOST_LETTERS", 299)
    with pytest.raises(ValueError, match="names of the classes are too long"):
        torchblob.save(clf, path)
    monkeypatch.setattr(torchblob._model_file, "MOST_LETTERS", 300)
    np.testing.assert_array_equal(reload(clf, path).classes_, clf.classes_)


def test_a_history_too_long_for_the_header_is_an_error(small, path, monkeypatch):
    monkeypatch.setattr(torchblob._model_file, "MOST_HEADER_BYTES", 2000)
    with pytest.raises(ValueError, match="history_ and the names of features are long"):
        torchblob.save(fit(*small), path)


def test_a_process_killed_while_it_saves_leaves_a_whole_file(small, path, processes):
    X, y = small
    classifiers = [fit(X, y, random_state=seed) for seed in range(2)]
    answers = [clf.predict_proba(X) for clf in classifiers]
    rng = np.random.default_rng(0)
    for _ in range(20):
        begun = processes.Event()
        process = processes.Process(
            target=workers.save_in_turn, args=(classifiers, path, begun)
        )
        process.start()
        assert begun.wait(60)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join(60)
        assert not process.is_alive()
        answer = torchblob.load(path, "cpu").predict_proba(X)
        assert any(np.array_equal(answer, known) for known in answers)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            r"No space left on device: '.*model.safetensors'$",
        ),
        (KeyboardInterrupt(), "^$"),
    ],
    ids=["full disk", "Ctrl-C"],
)
def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    small, path, monkeypatch, error, message
):
    X, y = small
    torchblob.save(fit(X, y), path)
    before = path.read_bytes()

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error), match=message):
        torchblob.save(fit(X, y, random_state=1), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_an_error(small, tmp_path):
    clf = fit(*small)
    with pytest.raises(FileNotFoundError, match=r"none/model.safetensors'$"):
        torchblob.save(clf, tmp_path / "none" / "model.safetensors")
    with pytest.raises(OSError, match=r"tests/test_persistence.py/model'"):
        torchblob.save(clf, Path(__file__) / "model")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder of the kernel's")
def test_a_folder_that_is_read_only_is_an_error(small):
    with pytest.raises(PermissionError, match=r"'/sys/model.safetensors'"):
        torchblob.save(fit(*small), "/sys/model.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_file_is_not_replaced(small, path):
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"Not a regular file: '.*model.safetensors'$"):
        torchblob.save(fit(*small), path)
    assert path.is_fifo()


@pytest.mark.parametrize("path", [3, None, True])
def test_what_is_no_path_is_an_error_that_says_who_needs_one(small, path):
    clf = fit(*small)
    calls = {
        "torchblob.save": lambda: torchblob.save(clf, path),
        "torchblob.load": lambda: torchblob.load(path),
        "to_onnx": lambda: torchblob.to_onnx(clf, path),
    }
    if path is not None:
        name = "TorchBlobClassifier.fit, as checkpoint,"
        calls[name] = lambda: clf.fit(*small, checkpoint=path)
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name} needs a path, .* Got {path!r}"):
            call()


def test_a_path_may_be_bytes(small, path):
    torchblob.save(fit(*small), os.fsencode(path))
    assert torchblob.load(os.fsencode(path)).n_iter_ == 10


def test_a_name_may_be_as_long_as_the_system_allows(small, tmp_path):
    path = tmp_path / ("ä" * 127)
    torchblob.save(fit(*small), path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_optimizer_remembers_may_be_infinite(small, path):
    X, y = small
    clf = fit(X, y, optimizer="adam")
    for state in clf.net_.optimizer_.state.values():
        state["exp_avg_sq"].fill_(float("inf"))
    same = reload(clf, path)
    for estimator in (clf, same):
        estimator.partial_fit(X, y)
    assert torch.equal(weights(same), weights(clf))


def test_a_link_stays_a_link(small, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    torchblob.save(fit(*small), link)
    assert link.is_symlink()
    assert torchblob.load(target).n_iter_ == 10


def test_a_file_can_be_read_by_others_as_the_user_wants(small, path):
    before = os.umask(0o027)
    try:
        torchblob.save(fit(*small), path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    torchblob.save(fit(*small), path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_skops_keeps_a_classifier_and_trusts_two_types(small):
    X, y = small
    clf = fit(X, y, momentum=0.9)
    data = skops.io.dumps(clf)
    trusted = skops.io.get_untrusted_types(data=data)
    assert trusted == [
        "torchblob._classifier.TorchBlobClassifier",
        "torchblob.training._net.BlobNet",
    ]
    same = skops.io.loads(data, trusted=trusted)
    np.testing.assert_array_equal(same.predict_proba(X), clf.predict_proba(X))
    for estimator in (clf, same):
        estimator.partial_fit(X, y)
    assert torch.equal(weights(same), weights(clf))
