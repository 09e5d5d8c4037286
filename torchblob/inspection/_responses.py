"""What a classifier answers, and how far each class leads."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchblob.inspection._plane import NAME, as_array

RESPONSES = ("auto", "predict_proba", "decision_function", "predict")
OF_PROBABILITIES = ("entropy", "margin")


def leads_of(scores: np.ndarray) -> np.ndarray:
    """Return each class's score less the highest of the others, (..., n_classes)."""
    first = scores.argmax(-1)[..., None]
    leads = scores - np.take_along_axis(scores, first, -1)
    others = leads.copy()
    np.put_along_axis(others, first, -np.inf, -1)
    np.put_along_axis(leads, first, -others.max(-1, keepdims=True), -1)
    return leads


def scores_of(
    estimator: Any,
    X: Any,
    rows: Any,
    method: str,
    classes: np.ndarray,
    predicted: np.ndarray | None,
) -> tuple[np.ndarray, str]:
    """Return what a classifier answers to rows, and to which of its methods.

    For "auto", that is the first method that agrees with what is predicted for `X`,
    which is not predicted again if it is given.
    """

    def answer(name: str, to: Any) -> np.ndarray:
        return as_array(getattr(estimator, name)(to))

    if method in OF_PROBABILITIES:
        method = "predict_proba"
    known = [name for name in RESPONSES[1:] if hasattr(estimator, name)]
    if method == "auto":
        predicted = answer("predict", X) if predicted is None else predicted
        for name in known[:-1]:
            # Pairwise votes, say, or probabilities that are calibrated apart, are no
            # scores of the classes that it predicts.
            if _agree(answer(name, X), predicted, classes):
                return answer(name, rows), name
        method = "predict"
    if method not in known:
        raise ValueError(
            f"{NAME}: {type(estimator).__name__} has no method {method}. Choose a "
            f"response_method of {', '.join(known)}."
        )
    scores = answer(method, rows)
    if scores.ndim == 2 and scores.shape[1] != len(classes):
        raise ValueError(
            f"{NAME} needs a score for each of {len(classes)} classes. {method} of "
            f"{type(estimator).__name__} has {scores.shape[1]}; choose "
            "response_method='predict'."
        )
    return scores, method


def _agree(scores: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> bool:
    """Return whether the classes with the highest scores are those predicted."""
    if scores.ndim == 1:
        first = (scores > 0).astype(int)
    elif scores.shape[1] == len(classes):
        first = scores.argmax(1)
    else:
        return False
    return bool(np.mean(classes[first] == predicted) > 0.99)


def answers_of(
    scores: np.ndarray, method: str, wanted: str, classes: np.ndarray, of_interest: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str | None]:
    """Return response, leads, confidence, and the name of the response, if shown."""
    n_classes = len(classes)
    response = scores
    if method == "predict":
        # LabelEncoder's codes, which scikit-learn shows.
        response = np.searchsorted(classes, scores)
        scores = (response[:, None] == np.arange(n_classes)).astype(float)
    elif scores.ndim == 1:  # the decision function of two classes
        scores = np.stack([-scores, scores], axis=1) / 2
    leads = leads_of(scores)
    if method == "decision_function":
        ahead = leads.max(1)
        confidence = ahead / max(ahead.max(), np.finfo(float).tiny)
    else:
        confidence = (scores.max(1) - 1 / n_classes) / (1 - 1 / n_classes)
    quantity = None
    if wanted == "entropy":
        logarithms = np.log2(scores, where=scores > 0, out=np.zeros_like(scores))
        response, quantity = -(scores * logarithms).sum(1), "entropy (bits)"
    elif wanted == "margin":
        response, quantity = leads.max(1), "margin"
    elif of_interest is not None and method != "predict":
        k = int(np.flatnonzero(classes == of_interest)[0])
        if response.ndim == 1:
            response = response if k else -response
        else:
            response = response[:, k]
        what = "probability" if method == "predict_proba" else "decision function"
        quantity = f"{what} of {of_interest}"
    elif n_classes == 2 and response.ndim == 2:
        response = response[:, 1]
    return response, leads, confidence.clip(0, 1), quantity


def last_estimator(estimator: Any, rows: Any = None) -> tuple[Any, Any]:
    """Return what a search found and a Pipeline ends with, and rows as it gets them."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            if rows is not None and len(estimator.steps) > 1:
                rows = estimator[:-1].transform(rows)
            estimator = estimator[-1]
        else:
            return estimator, rows


def first_layer_of(estimator: Any, rows: Any) -> np.ndarray:
    """Return what the units of a network's first layer get, (n, n_units)."""
    estimator, rows = last_estimator(estimator, rows)
    layers = getattr(getattr(estimator, "module_", None), "linear_layers", [])
    if len(layers) < 2:
        raise ValueError(
            f"{NAME}: first_layer=True needs a TorchBlobClassifier with hidden layers, "
            f"also at the end of a Pipeline. Got {estimator!r}."
        )
    weight, bias = (
        tensor.detach().cpu().double().numpy()
        for tensor in (layers[0].weight, layers[0].bias)
    )
    return as_array(rows).astype(float) @ weight.T + bias
