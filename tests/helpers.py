"""What several files of tests compare by."""

import torch


def weights(fitted):
    """Return all weights and biases of a classifier or a net, (n_parameters,)."""
    return torch.cat([p.detach().flatten() for p in fitted.module_.parameters()])
