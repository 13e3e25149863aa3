import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from kennel.training.loss import mixed_row_losses, row_losses

ROWS, CLASSES = 12, 5
OPTIONS = [(smoothing, weighted) for smoothing in (0.0, 0.1, 0.9) for weighted in (False, True)]


@pytest.fixture
def rows():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, CLASSES, generator=random) * 3
    labels = torch.randint(CLASSES, (ROWS,), generator=random)
    others = torch.randint(CLASSES, (ROWS,), generator=random)
    return logits, labels, others, torch.rand(CLASSES, generator=random) + 0.2


@pytest.mark.parametrize(("smoothing", "weighted"), OPTIONS)
def test_the_mean_is_torchs_cross_entropy(rows, smoothing, weighted):
    logits, labels, _, weights = rows
    weights = weights if weighted else None
    losses, row_weights = row_losses(logits, labels, smoothing, weights)
    assert losses.shape == row_weights.shape == (ROWS,)
    expected = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    assert float(losses.sum() / row_weights.sum()) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("smoothing", "weighted"), OPTIONS)
def test_two_processes_add_up_to_the_whole_batch(rows, smoothing, weighted):
    logits, labels, others, weights = rows
    weights = weights if weighted else None
    parts = [
        mixed_row_losses(logits[part], labels[part], others[part], 0.3, smoothing, weights)
        for part in (slice(0, 4), slice(4, ROWS))
    ]
    losses, row_weights = mixed_row_losses(logits, labels, others, 0.3, smoothing, weights)
    added = sum(part[0].sum() for part in parts) / sum(part[1].sum() for part in parts)
    assert float(added) == pytest.approx(float(losses.sum() / row_weights.sum()), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_are_cross_entropy_with_shared_probabilities(rows, smoothing):
    logits, labels, others, _ = rows
    losses, row_weights = mixed_row_losses(logits, labels, others, 0.3, smoothing)
    shared = 0.3 * F.one_hot(labels, CLASSES) + 0.7 * F.one_hot(others, CLASSES)
    expected = F.cross_entropy(logits, shared, label_smoothing=smoothing)
    assert float(losses.sum() / row_weights.sum()) == pytest.approx(float(expected), abs=1e-6)


def test_mixed_labels_weigh_what_their_classes_weigh(rows):
    logits, labels, others, weights = rows
    losses, row_weights = mixed_row_losses(logits, labels, others, 0.25, 0.1, weights)
    first, second = row_losses(logits, labels, 0.1, weights), row_losses(logits, others, 0.1, weights)
    assert torch.allclose(losses, 0.25 * first[0] + 0.75 * second[0])
    assert torch.allclose(row_weights, 0.25 * first[1] + 0.75 * second[1])


def test_logits_of_half_precision_are_judged_in_float32(rows):
    logits, labels, others, weights = rows
    logits = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        losses, row_weights = mixed_row_losses(logits, labels, others, 0.5, 0.1, weights)
    assert losses.dtype == row_weights.dtype == torch.float32
    assert torch.equal(losses, mixed_row_losses(logits.float(), labels, others, 0.5, 0.1, weights)[0])
    losses.sum().backward()
    assert logits.grad.dtype == torch.bfloat16
