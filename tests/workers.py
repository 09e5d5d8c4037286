"""What the processes do that tests start; few imports, so that they start at once."""

import torchblob


def save_in_turn(classifiers, path, begun):
    """Save one classifier after the other until this process is killed."""
    while True:
        for clf in classifiers:
            torchblob.save(clf, path)
            begun.set()
