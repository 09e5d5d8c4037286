"""The kernel against autograd, the oracle, in float64."""

import pytest
import torch
from torch import nn

from torchblob import BlobModel
from torchblob.nn import ACTIVATIONS, Kernel, make_targets, negated_targets
from torchblob.nn._kernel import WIDE

FEATURES, CLASSES, ROWS = 4, 3, 57


def table(stack, label_smoothing=0.0):
    return negated_targets(stack.classes, label_smoothing, stack.w)


class Stack:
    """K networks with data, weights and dropout masks of their own."""

    def __init__(
        self,
        n_networks,
        hidden_units,
        activation,
        *,
        dropout=False,
        rows=ROWS,
        classes=CLASSES,
    ):
        generator = torch.Generator().manual_seed(0)
        self.generator, self.rows, self.classes = generator, rows, classes
        self.activation, self.hidden_units = activation, hidden_units
        self.models = [
            BlobModel(FEATURES, classes, hidden_units, activation, generator=generator)
            for _ in range(n_networks)
        ]
        for model in self.models:
            model.double()
        self.x = self.draw(FEATURES).transpose(-1, -2).contiguous()
        self.y = torch.randint(classes, (n_networks, rows), generator=generator)
        self.w = self.draw().abs()
        self.masks = None
        if dropout:
            # Of a half: a unit is multiplied by 0 or 2.
            self.masks = [2 * (self.draw(width) > 0).double() for width in hidden_units]

    def draw(self, *units):
        shape = (len(self.models), *units, self.rows)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def parameters(self, name):
        """Return the layers' weights or biases, stacked, or as they are for K = 1."""
        of_models = [
            [getattr(layer, name).detach() for layer in model.linear_layers]
            for model in self.models
        ]
        return [self.unstack(torch.stack(of)) for of in zip(*of_models, strict=True)]

    def unstack(self, tensor):
        return tensor[0] if len(self.models) == 1 else tensor

    def kernel(self):
        """Return a kernel, and the gradients it writes."""
        weights, biases = self.parameters("weight"), self.parameters("bias")
        pairs = zip(weights, biases, strict=True)
        gradients = [torch.full_like(p, torch.nan) for pair in pairs for p in pair]
        kernel = Kernel(
            weights,
            biases,
            self.activation,
            gradients=gradients,
            dropout=self.masks is not None,
        )
        return kernel, gradients

    def block(self, at=slice(None), label_smoothing=0.0):
        """Return features and targets of some rows."""
        x, y, w = map(self.unstack, (self.x, self.y, self.w))
        targets = make_targets(y[..., at], w[..., at], table(self, label_smoothing))
        return x[..., at, :], targets

    def accumulate(self, kernel, size=None, label_smoothing=0.0):
        """Return the loss sums, (K,), after walking all rows in blocks of `size`."""
        total = 0.0
        size = size or self.rows
        for start in range(0, self.rows, size):
            at = slice(start, start + size)
            masks = None
            if self.masks is not None:
                masks = [self.unstack(mask)[..., at] for mask in self.masks]
            block = self.block(at, label_smoothing)
            total += kernel.descent(*block, first=start == 0, masks=masks)()[0]
        return total.reshape(-1)

    def autograd(self, label_smoothing=0.0):
        """Return the loss sums, (K,), and the gradients of each model's parameters."""
        losses, gradients = [], []
        for k, model in enumerate(self.models):
            h, hidden = self.x[k], 0
            for layer in model.linear_layer_stack:
                if isinstance(layer, nn.Linear) and layer is not model.linear_layers[0]:
                    if self.masks is not None:
                        h = h * self.masks[hidden][k].T
                    hidden += 1
                h = layer(h)
            loss = nn.functional.cross_entropy(
                h, self.y[k], reduction="none", label_smoothing=label_smoothing
            )
            losses.append((loss * self.w[k]).sum())
            gradients.append(torch.autograd.grad(losses[-1], list(model.parameters())))
        return torch.stack(losses).detach(), gradients


def assert_agree(stack, losses, gradients, label_smoothing=0.0):
    """Check sums and gradients against autograd's, to 1e-10 of their norm."""
    expected_losses, expected = stack.autograd(label_smoothing)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-10, atol=0)
    for i, gradient in enumerate(gradients):
        oracle = torch.stack([of_model[i] for of_model in expected])
        error = (gradient.reshape(oracle.shape) - oracle).flatten(1).norm(dim=1)
        assert (error <= 1e-10 * oracle.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n_networks", [1, 3])
@pytest.mark.parametrize("hidden_units", [(), (5,), (6, 4), (5, 4, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradient_agree_with_autograd(
    activation, hidden_units, n_networks, label_smoothing, dropout
):
    stack = Stack(n_networks, hidden_units, activation, dropout=dropout)
    kernel, gradients = stack.kernel()
    losses = stack.accumulate(kernel, label_smoothing=label_smoothing)
    assert_agree(stack, losses, gradients, label_smoothing)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("hidden_units", [(WIDE, 5), (5, WIDE), (WIDE, WIDE)])
@pytest.mark.parametrize("n_networks", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_wide_layers_agree_with_autograd_too(
    activation, n_networks, hidden_units, dropout
):
    stack = Stack(n_networks, hidden_units, activation, dropout=dropout)
    kernel, gradients = stack.kernel()
    assert_agree(stack, stack.accumulate(kernel, size=20), gradients)


@pytest.mark.parametrize("size", [150, 300])
@pytest.mark.parametrize("n_networks", [1, 3])
def test_wide_layers_of_many_rows_agree_with_autograd_too(n_networks, size):
    stack = Stack(n_networks, (WIDE, 5), "relu", rows=300)
    kernel, gradients = stack.kernel()
    assert_agree(stack, stack.accumulate(kernel, size), gradients)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_many_classes_agree_with_autograd_too(n_networks):
    stack = Stack(n_networks, (5,), "relu", classes=WIDE)
    kernel, gradients = stack.kernel()
    assert_agree(stack, stack.accumulate(kernel, size=20), gradients)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("n_networks", [1, 3])
def test_a_kernel_for_dropout_computes_without_masks_too(n_networks, activation):
    stack = Stack(n_networks, (6, 4), activation, dropout=True)
    kernel, gradients = stack.kernel()
    stack.accumulate(kernel)  # leaves dropped units in the buffers
    stack.masks = None
    assert_agree(stack, stack.accumulate(kernel), gradients)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_a_step_computes_from_what_its_tensors_hold(n_networks):
    stack = Stack(n_networks, (6, 4), "relu")
    kernel, gradients = stack.kernel()
    x, targets = stack.block()
    step = kernel.descent(x, targets)
    before = step()[0].clone()
    torch.testing.assert_close(step()[0], before, rtol=0, atol=0)
    x.mul_(2)  # the rows of stack.x, which is what the oracle sees
    stack.w.mul_(3)
    make_targets(targets.y, stack.unstack(stack.w), table(stack), out=targets)
    with torch.no_grad():
        for model in stack.models:
            for parameter in model.parameters():
                parameter.mul_(0.5)
        for mine, theirs in zip(
            kernel.weights, stack.parameters("weight"), strict=True
        ):
            mine.copy_(theirs)
        for mine, theirs in zip(kernel.biases, stack.parameters("bias"), strict=True):
            mine.copy_(theirs.unsqueeze(-1))
    assert_agree(stack, step()[0].reshape(-1), gradients)


@pytest.mark.parametrize("size", [1, 20, 56, 57, 100])
@pytest.mark.parametrize("n_networks", [1, 3])
def test_blocks_add_up_to_the_whole_wherever_they_end(n_networks, size):
    stack = Stack(n_networks, (6, 4), "silu", dropout=True)
    kernel, gradients = stack.kernel()
    losses = stack.accumulate(kernel, size, label_smoothing=0.1)
    assert_agree(stack, losses, gradients, 0.1)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_the_gradients_of_two_kernels_add_up_to_the_whole(n_networks):
    stack = Stack(n_networks, (6, 4), "relu")
    (kernel, gradients), (other, _) = stack.kernel(), stack.kernel()
    losses = kernel.descent(*stack.block(slice(0, 20)))()[0]
    losses = losses + other.descent(*stack.block(slice(20, ROWS)))()[0]
    kernel.add_gradients(other)
    assert_agree(stack, losses.reshape(-1), gradients)


def test_a_second_batch_starts_from_zero():
    stack = Stack(2, (6, 4), "relu")
    kernel, gradients = stack.kernel()
    stack.accumulate(kernel, size=20)
    assert_agree(stack, stack.accumulate(kernel, size=20), gradients)


@pytest.mark.parametrize("n_networks", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_logits_are_those_of_the_modules(activation, n_networks):
    stack = Stack(n_networks, (6, 4), activation)
    kernel, _ = stack.kernel()
    logits = kernel.logits(stack.unstack(stack.x))
    expected = torch.stack(
        [model(x).T for model, x in zip(stack.models, stack.x, strict=True)]
    )
    torch.testing.assert_close(logits, stack.unstack(expected).detach())


@pytest.mark.parametrize("n_networks", [1, 3])
def test_evaluation_gives_the_weighted_sums_of_losses_and_hits(n_networks):
    stack = Stack(n_networks, (6, 4), "tanh")
    kernel, _ = stack.kernel()
    block = stack.block(label_smoothing=0.1)
    loss, hits = kernel.evaluation(*block)()
    torch.testing.assert_close(loss.reshape(-1), stack.autograd(0.1)[0])
    expected = [
        (stack.w[k] * (model(stack.x[k]).argmax(1) == stack.y[k])).sum()
        for k, model in enumerate(stack.models)
    ]
    torch.testing.assert_close(hits.reshape(-1), torch.stack(expected))
    assert torch.equal(kernel.descent(*block, with_hits=True)()[1], hits)


def test_descent_counts_hits_only_where_they_are_wanted():
    stack = Stack(1, (6, 4), "relu")
    kernel, _ = stack.kernel()
    block = stack.block()
    assert len(kernel.descent(*block)()) == 1
    assert len(kernel.descent(*block, with_hits=True)()) == 2


def test_a_tie_is_a_hit_for_the_first_class_only():
    kernel = Kernel([torch.zeros(3, 2)], [torch.zeros(3)])
    targets = make_targets(torch.tensor([0, 1, 2]), torch.ones(3), -torch.eye(3))
    _, hits = kernel.evaluation(torch.ones(3, 2), targets)()
    assert hits.item() == 1


def test_a_row_of_weight_zero_adds_nothing():
    stack = Stack(2, (6, 4), "relu")
    stack.w[:, 7] = 0
    stack.x[:, 7] = 1e6
    kernel, gradients = stack.kernel()
    stack.accumulate(kernel)
    with_row = [gradient.clone() for gradient in gradients]
    stack.x[:, 7] = 0
    stack.accumulate(kernel)
    for gradient, expected in zip(gradients, with_row, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def test_the_kernel_works_on_the_weights_where_they_are():
    stack = Stack(1, (6, 4), "relu")
    model, x = stack.models[0], stack.x[0]
    layers = model.linear_layers
    kernel = Kernel(
        [layer.weight for layer in layers], [layer.bias for layer in layers]
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(kernel.logits(x), model(x).T.detach())


def test_large_logits_neither_overflow_nor_lose_the_gradient():
    weight = torch.tensor([[1e3], [-1e3]], dtype=torch.float32)
    gradients = [torch.empty(2, 1), torch.empty(2)]
    kernel = Kernel([weight], [torch.zeros(2)], gradients=gradients)
    targets = make_targets(torch.tensor([1, 1]), torch.ones(2), -torch.eye(2))
    x = torch.tensor([[1.0], [-1.0]])
    loss, hits = kernel.descent(x, targets, with_hits=True)()
    assert loss.item() == 2000
    assert hits.item() == 1
    assert gradients[0].tolist() == [[1.0], [-1.0]]
