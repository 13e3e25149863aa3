import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms import RandAugment, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op
from torchvision.transforms.functional import InterpolationMode

from kennel.images.augment import augmented_views
from kennel.images.augment_batch import Changes, augment_batch, draw_changes, magnitude_table
from kennel.images.augment_operations import MOVING, OPERATIONS

POLICIES = {
    "randaugment": RandAugment()._augmentation_space(31, (64, 64)),
    "trivialaugment": TrivialAugmentWide()._augmentation_space(31),
}


def photos(count, side=64):
    """Smooth random images with some grain, of different brightness: (count, side, side, 3) uint8."""
    noise = torch.Generator().manual_seed(count)
    smooth = interpolate(torch.rand(count, 3, 5, 5, generator=noise), size=(side, side), mode="bicubic")
    grain = torch.randn(count, 3, side, side, generator=noise) * 4
    reach = torch.linspace(120, 250, count).view(-1, 1, 1, 1)
    return (smooth * reach + grain).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def only(name, magnitudes):
    count = len(magnitudes)
    operations = torch.full((count, 1), OPERATIONS.index(name))
    return Changes(torch.zeros(count, dtype=torch.bool), operations, torch.tensor(magnitudes).view(-1, 1))


def by_torchvision(image, name, magnitude):
    planes = image.permute(2, 0, 1).contiguous()
    return _apply_op(planes, name, magnitude, InterpolationMode.NEAREST, None).permute(1, 2, 0)


def test_operations_and_magnitudes_are_torchvisions():
    for policy, space in POLICIES.items():
        assert tuple(space) == OPERATIONS
        ours = magnitude_table(policy, 64)
        for name, (theirs, _) in space.items():
            expected = theirs.float().trunc() if name.startswith("Translate") else theirs.float()
            assert torch.equal(ours[OPERATIONS.index(name)], expected.expand(31)), (policy, name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_what_torchvisions_does(name):
    magnitudes = []
    for space in POLICIES.values():
        table, signed = space[name]
        for place in (0, 3, 9, 17, 30):
            value = float(table[place] if table.ndim else table)
            value = float(int(value)) if name.startswith("Translate") else value
            magnitudes += [value, -value] if signed else [value]
    images = photos(len(magnitudes))
    ours = augment_batch(images, only(name, magnitudes))
    assert ours.shape == images.shape
    assert ours.dtype == torch.uint8
    for i, magnitude in enumerate(magnitudes):
        off = (ours[i].int() - by_torchvision(images[i], name, magnitude).int()).abs()
        if name in MOVING:  # where a place lies just between two pixels, either is the nearest
            assert (off > 0).float().mean() < 0.005, (name, magnitude)
        else:
            assert off.max() <= 1, (name, magnitude)
            assert off.float().mean() < 0.05, (name, magnitude)


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
def test_a_flat_image_stays_flat(name):
    image = torch.full((1, 16, 16, 3), 77, dtype=torch.uint8)
    assert torch.equal(augment_batch(image, only(name, [0.0])), image)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_mixed_batch_is_changed_as_its_images_one_by_one(policy):
    images = photos(48, side=32)
    changes = draw_changes(policy, 48, 32, torch.Generator().manual_seed(3))
    assert len(changes.operations.unique()) > 8
    together = augment_batch(images, changes)
    alone = [augment_batch(images[i : i + 1], changes.rows(slice(i, i + 1))) for i in range(48)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, photos(48, side=32))


def test_randaugment_does_two_operations_of_magnitude_nine_and_trivialaugment_one_of_any():
    strong = draw_changes("randaugment", 4000, 64, torch.Generator().manual_seed(0))
    assert strong.operations.shape == (4000, 2)
    ninth = magnitude_table("randaugment", 64)[:, 9]
    assert torch.equal(strong.magnitudes.abs(), ninth[strong.operations])
    trivial = draw_changes("trivialaugment", 4000, 64, torch.Generator().manual_seed(0))
    assert trivial.operations.shape == (4000, 1)
    for policy, changes in (("randaugment", strong), ("trivialaugment", trivial)):
        for number, name in enumerate(OPERATIONS):
            drawn = changes.magnitudes[changes.operations == number]
            assert len(drawn) / changes.operations.numel() == pytest.approx(1 / 14, abs=0.02)
            negative = float((drawn < 0).float().mean())
            assert negative == (pytest.approx(0.5, abs=0.1) if POLICIES[policy][name][1] else 0)


@pytest.mark.parametrize("policy", ["flip", *POLICIES])
def test_half_of_the_images_are_mirrored(policy):
    changes = draw_changes(policy, 4000, 64, torch.Generator().manual_seed(0))
    assert float(changes.mirrored.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_flip_mirrors_and_none_changes_and_draws_nothing():
    images, generator = photos(16, side=16), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert augment_batch(images, draw_changes("none", 16, 16, generator)) is images
    assert torch.equal(generator.get_state(), before)
    changes = draw_changes("flip", 16, 16, generator)
    flipped = augment_batch(images, changes)
    assert torch.equal(flipped[changes.mirrored], images[changes.mirrored].flip(2))
    assert torch.equal(flipped[~changes.mirrored], images[~changes.mirrored])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_state_of_the_generator_gives_the_same_images(policy):
    images, generator = photos(16, side=32), torch.Generator().manual_seed(5)
    draw_changes(policy, 16, 32, generator)
    state = generator.get_state()
    first = augment_batch(images, draw_changes(policy, 16, 32, generator))
    other = augment_batch(images, draw_changes(policy, 16, 32, generator))
    again = augment_batch(images, draw_changes(policy, 16, 32, torch.Generator().set_state(state)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_head_sees_mirrored_images_whatever_the_backbone_sees():
    for augment in ("flip", "randaugment", "trivialaugment"):
        assert augmented_views(augment) == ("original", "mirrored")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_gpu_changes_images_as_the_cpu_does(policy):
    images, changes = photos(48), draw_changes(policy, 48, 64, torch.Generator().manual_seed(1))
    off = (augment_batch(images.cuda(), changes).cpu().int() - augment_batch(images, changes).int()).abs()
    assert (off > 1).float().mean() < 0.005
