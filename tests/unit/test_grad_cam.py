"""Where heat maps come from, and that they lie where the class is."""

import numpy as np
import pytest
import torch
from torch import nn

from kennel.engines.grad_cam import GradCam, find_last_map, from_last_map
from kennel.model.backbones import build_backbone
from kennel.model.classifier import Classifier, make_head
from kennel.serving.explain import lay_over
from tests.networks import build_on_meta

LAST_MAPS = {  # one of each kind: how many features its last map has, and places a side, for images of 224 pixels
    "alexnet": (256, 6),
    "convnext_tiny": (768, 7),
    "densenet121": (1024, 7),
    "efficientnet_b0": (1280, 7),
    "efficientnet_v2_s": (1280, 7),
    "googlenet": (1024, 7),
    "inception_v3": (2048, 5),
    "mnasnet0_5": (1280, 7),
    "mobilenet_v2": (1280, 7),
    "mobilenet_v3_small": (576, 7),
    "regnet_x_400mf": (400, 7),
    "regnet_y_400mf": (440, 7),
    "resnet18": (512, 7),
    "resnext50_32x4d": (2048, 7),
    "shufflenet_v2_x0_5": (1024, 7),
    "squeezenet1_1": (512, 13),
    "vgg11_bn": (512, 7),
    "wide_resnet50_2": (2048, 7),
}
POOLED = {  # some whose features are the means of their last map, with an image size that is quick
    "resnet18": 64,
    "mobilenet_v2": 64,
    "densenet121": 64,
    "squeezenet1_1": 64,
    "regnet_y_400mf": 64,
    "shufflenet_v2_x0_5": 64,
    "mnasnet0_5": 64,
}
SIDE = 128


@pytest.mark.parametrize("name", LAST_MAPS)
def test_the_last_map_of_a_convolutional_backbone_is_found(name):
    backbone = build_on_meta(name, 224).eval().requires_grad_(False)
    images = torch.zeros(1, 3, 224, 224, device="meta")
    features, answer = from_last_map(backbone, images, find_last_map(backbone, images))
    count, side = LAST_MAPS[name]
    assert features.shape == (1, count, side, side)
    assert answer.requires_grad


@pytest.mark.parametrize("name", POOLED)
def test_the_last_map_is_what_the_features_are_the_means_of(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, POOLED[name]).eval().requires_grad_(False)
    images = torch.randn(1, 3, POOLED[name], POOLED[name])
    features, answer = from_last_map(backbone, images, find_last_map(backbone, torch.zeros_like(images)))
    assert features.shape[-1] > 1
    assert torch.allclose(features.mean(dim=(2, 3)), answer, rtol=1e-4, atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(backbone(images), answer)


def test_where_nothing_is_left_of_small_images_an_earlier_map_is_taken():
    backbone = build_backbone("resnet18", 32).eval().requires_grad_(False)
    images = torch.zeros(1, 3, 32, 32)
    features, _ = from_last_map(backbone, images, find_last_map(backbone, images))
    assert features.shape == (1, 256, 2, 2)


@pytest.fixture(scope="module")
def squares():
    """Noise with a red or a blue square in one quadrant, and a network that tells the two apart: its head is fitted."""
    torch.manual_seed(0)
    classes = torch.arange(16) % 2
    images = 0.3 * torch.randn(16, 3, SIDE, SIDE)
    half, quarter = SIDE // 2, SIDE // 4
    for number, image in enumerate(images):
        top, left = (half * (number // 2 // 2 % 2) + quarter // 2, half * (number // 2 % 2) + quarter // 2)
        colour = torch.tensor([[2.0, -2.0, -2.0], [-2.0, -2.0, 2.0]][number % 2])
        image[:, top : top + quarter, left : left + quarter] = colour[:, None, None]
    backbone = build_backbone("resnet18", SIDE)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # these images' statistics, at once
    with torch.no_grad():
        backbone.train()(images)
        features = backbone.eval()(images)
    head = make_head(backbone, 16, 0.0, 2)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), classes).backward()
        optimizer.step()
    classifier = Classifier(backbone, head).eval()
    with torch.inference_mode():
        assert torch.equal(classifier(images).argmax(dim=1), classes)
    return classifier, images.numpy(), classes.tolist()


@pytest.mark.parametrize("views", [("original",), ("original", "mirrored")])
def test_the_heat_lies_in_the_quadrant_that_decides_the_class(squares, views):
    classifier, images, classes = squares
    grad_cam = GradCam(classifier, SIDE, views)
    for number in (0, 3, 4, 7):  # both classes, and all four quadrants
        heat = grad_cam.heat(images[number], classes[number])
        assert heat.shape == (SIDE, SIDE)
        assert (heat.min() >= 0, heat.max()) == (True, 1)
        quadrants = heat.reshape(2, SIDE // 2, 2, SIDE // 2).sum(axis=(1, 3)).flatten()
        assert quadrants.argmax() == number // 2 % 4
        assert quadrants.max() > 0.35 * quadrants.sum()


def test_the_heat_of_a_mirrored_view_is_mirrored_back(squares):
    classifier, images, classes = squares
    plain, mirrored = GradCam(classifier, SIDE), GradCam(classifier, SIDE, ("mirrored",))
    seen_mirrored = plain.heat(images[0, :, :, ::-1], classes[0])
    assert np.allclose(mirrored.heat(images[0], classes[0]), seen_mirrored[:, ::-1], atol=1e-6)


def test_where_nothing_speaks_for_a_class_there_is_no_heat(squares):
    classifier, images, _ = squares
    bare = Classifier(classifier.backbone, nn.Linear(512, 2))
    nn.init.constant_(bare.head.weight, -1)  # every feature speaks against it, and none is negative
    assert GradCam(bare.eval(), SIDE).heat(images[0], 0).tolist() == np.zeros((SIDE, SIDE)).tolist()


def test_a_heat_is_laid_over_a_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.float32)
    assert np.array_equal(lay_over(pixels, np.zeros((4, 4), np.float32)), pixels)
    hot = lay_over(pixels, np.ones((4, 4), np.float32)).astype(float)
    assert np.abs(np.diff(hot.reshape(-1, 3), axis=0)).max() < 0.5 * 255  # less of the picture, and the same colour
    assert hot[:, :, 0].mean() > 2 * hot[:, :, 2].mean()  # red
