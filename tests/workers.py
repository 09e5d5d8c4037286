"""What the processes do that tests start; few imports, so that they start at once."""

import math

import torchblob
from torchblob import _checkpoint


def save_in_turn(classifiers, path, begun):
    """Save one classifier after the other until this process is killed."""
    while True:
        for clf in classifiers:
            torchblob.save(clf, path)
            begun.set()


def fit_and_save(clf, data, checkpoint, result):
    """Fit with a checkpoint that is written after each epoch, and save the result."""
    _checkpoint.SECONDS, _checkpoint.SHARE = 0.0, math.inf
    torchblob.save(clf.fit(*data, checkpoint=checkpoint), result)
