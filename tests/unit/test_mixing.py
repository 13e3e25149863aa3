import pytest
import torch

from kennel.training.mixing import mix


def batch(count=4, side=16):
    """Images that are their own number in every pixel, (count, 3, side, side) float32, and their numbers."""
    numbers = torch.arange(count)
    return numbers.float().view(-1, 1, 1, 1).expand(count, 3, side, side).clone(), numbers


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shares(mixup, cutmix, draws=400):
    random = generator()
    return torch.tensor([mix(*batch(2, 32), mixup, cutmix, random)[2] for _ in range(draws)])


def test_mixup_blends_each_image_with_the_one_before_it_and_says_its_share():
    images, labels = batch()
    mixed, others, share = mix(images, labels, 0.4, 0.0, generator())
    assert others.tolist() == [3, 0, 1, 2]
    expected = share * labels + (1 - share) * others
    assert torch.allclose(mixed, expected.view(-1, 1, 1, 1).expand_as(mixed))
    assert mixed.data_ptr() == images.data_ptr()


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_one_rectangle_of_the_image_before_and_says_the_share_that_is_left(seed):
    images, labels = batch()
    mixed, others, share = mix(images, labels, 0.0, 1.0, generator(seed))
    own = mixed == labels.view(-1, 1, 1, 1)
    assert torch.equal(own, ~(mixed == others.view(-1, 1, 1, 1)))
    assert own.float().mean((1, 2, 3)).tolist() == pytest.approx([share] * 4)
    pasted = ~own[0, 0]
    rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
    assert rows * columns == pasted.sum()
    assert rows == columns or pasted[0].any() or pasted[-1].any() or pasted[:, 0].any() or pasted[:, -1].any()


def test_shares_follow_the_beta_distribution():
    blends = shares(0.4, 0.0)  # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1))
    assert float(blends.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(blends.var()) == pytest.approx(1 / 7.2, rel=0.15)
    assert float(shares(8.0, 0.0).var()) == pytest.approx(1 / 68, rel=0.2)


def test_where_both_are_set_each_batch_draws_one():
    random = generator()
    kinds = []
    for _ in range(200):
        mixed, _, _ = mix(*batch(2, 32), 1.0, 1.0, random)
        kinds.append(set(mixed.unique().tolist()) <= {0.0, 1.0})
    assert sum(kinds) / 200 == pytest.approx(0.5, abs=0.12)


def test_without_alphas_nothing_is_mixed_or_drawn():
    random = generator()
    images, labels = batch()
    mixed, others, share = mix(images, labels, 0.0, 0.0, random)
    assert torch.equal(mixed, batch()[0])
    assert torch.equal(others, labels)
    assert share == 1.0
    assert torch.equal(random.get_state(), generator().get_state())


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_the_same_state_gives_the_same_and_moves_on_as_far_for_any_batch(alphas):
    small, large = generator(7), generator(7)
    for _ in range(5):
        first, second = mix(*batch(3), *alphas, small), mix(*batch(8), *alphas, large)
        assert first[2] == second[2]
        assert torch.equal(small.get_state(), large.get_state())
    assert mix(*batch(3), *alphas, small)[2] != first[2]


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0)])
def test_one_image_alone_stays_as_it_is(alphas):
    image, label = torch.randn(1, 3, 8, 8, generator=generator()), torch.tensor([5])
    mixed, others, _ = mix(image.clone(), label, *alphas, generator())
    assert torch.allclose(mixed, image)
    assert torch.equal(others, label)


def test_the_memory_stays_channels_last():
    images, labels = batch()
    for alphas in ((0.4, 0.0), (0.0, 1.0)):
        mixed, _, _ = mix(images.contiguous(memory_format=torch.channels_last), labels, *alphas, generator())
        assert mixed.is_contiguous(memory_format=torch.channels_last)
