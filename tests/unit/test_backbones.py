import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from kennel.engines.torch_engine import FrozenBackbone, TorchEngine, fold_batch_norms
from kennel.errors import HyperparameterError, WeightsError
from kennel.hyperparameters import BACKBONES
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import load_artifact, new_classifier, save_artifact
from kennel.model.backbones import (
    build_backbone,
    check_image_size,
    count_features,
    fill_backbone,
    load_weights,
    weights_fingerprint,
)
from kennel.model.classifier import Classifier, make_head
from kennel.model.manifest import Manifest
from kennel.serving.app import create_app
from kennel.serving.service import Settings, load_service
from tests.networks import FEATURES, build_on_meta, smallest_size

TRAINED = {  # one of each kind, with an image size that is quick and leaves more than a pixel where networks can
    "resnet18": 64,
    "resnet34": 32,
    "resnet50": 32,
    "densenet121": 32,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 32,
    "squeezenet1_0": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "convnext_tiny": 32,
    "regnet_y_800mf": 64,
    "shufflenet_v2_x0_5": 64,
    "mnasnet0_5": 64,
    "vit_b_16": 32,
    "swin_t": 32,
    "googlenet": 64,
    "inception_v3": 75,
}


def test_every_classifier_of_torchvision_is_a_backbone():
    assert set(BACKBONES) == set(torchvision.models.list_models(module=torchvision.models))
    assert len(BACKBONES) == len(set(BACKBONES))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_turns_images_into_its_features(name):
    size = smallest_size(name)
    backbone = build_on_meta(name, size)
    with torch.inference_mode():
        features = backbone(torch.zeros(2, 3, size, size, device="meta"))
    assert features.shape == (2, count_features(backbone)) == (2, FEATURES[name])


@pytest.fixture(scope="module", params=TRAINED)
def network(request):
    """A random network of each family, after a step of training, with the gradients of that step."""
    name = request.param
    torch.manual_seed(0)
    size = TRAINED[name]
    backbone = build_backbone(name, size)
    classifier = Classifier(backbone, make_head(backbone, 16, 0.1, 3)).train()
    images = torch.randn(4, 3, size, size)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=1e-4)
    nn.functional.cross_entropy(classifier(images), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    return name, size, classifier


def normalized(size, count=3):
    return np.random.default_rng(3).normal(size=(count, 3, size, size)).astype(np.float32)


def test_every_parameter_of_a_backbone_learns(network):
    *_, classifier = network
    lazy = [name for name, p in classifier.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert lazy == []
    assert sum(p.grad.abs().sum() > 0 for p in classifier.backbone.parameters()) > 3


def test_frozen_features_are_those_of_the_plain_network(network):
    name, size, classifier = network
    images = normalized(size)
    with torch.inference_mode():
        expected = classifier.backbone.eval()(torch.from_numpy(images))
    found = FrozenBackbone(classifier.backbone).features(torch.as_tensor(images))
    assert found.shape == (3, FEATURES[name])
    assert (found - expected).abs().max() <= 1e-4 * max(1, expected.abs().max())


def test_a_saved_model_is_served_with_the_same_probabilities(network, tmp_path):
    name, size, classifier = network
    images = normalized(size)
    with torch.inference_mode():
        expected = torch.softmax(classifier.eval()(torch.from_numpy(images)), dim=1).numpy()
    manifest = Manifest(
        classes=("a", "b", "c"), backbone=name, fc_units=16, dropout=0.1, preprocessing=Preprocessing.for_size(size)
    )
    save_artifact(tmp_path, classifier, manifest)
    loaded, read = load_artifact(tmp_path)
    assert np.abs(TorchEngine(loaded, read.preprocessing).probabilities(images) - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["vit_b_16", "mobilenet_v3_small", "googlenet"])
def test_the_server_answers_for_a_backbone(name, tmp_path):
    manifest = Manifest(
        classes=("a", "b", "c"), backbone=name, fc_units=16, dropout=0.1, preprocessing=Preprocessing.for_size(64)
    )
    classifier = new_classifier(manifest).eval()
    save_artifact(tmp_path, classifier, manifest)
    images = normalized(64, 2)
    with torch.inference_mode():
        expected = torch.softmax(classifier(torch.from_numpy(images)), dim=1).numpy()
    settings = Settings()
    service = load_service(tmp_path, settings)
    service.start()
    answer = create_app(service, settings).test_client().post("/invocations", json=images.tolist())
    assert np.abs(np.array(answer.get_json()) - expected).max() < 1e-4


# folding


def test_a_network_without_batch_norms_is_not_rewritten():
    backbone = build_backbone("squeezenet1_1", 32)
    assert type(fold_batch_norms(backbone)) is type(backbone)


class Branching(nn.Module):
    """A network that torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)

    def forward(self, images):
        features = self.norm(self.convolution(images))
        return (features if features.sum() > 0 else -features).mean((2, 3))


def test_a_network_that_cannot_be_followed_is_taken_as_it_is():
    backbone = Branching()
    backbone(torch.rand(4, 3, 8, 8))
    images = normalized(8)
    with torch.inference_mode():
        expected = copy.deepcopy(backbone).eval()(torch.from_numpy(images))
    assert torch.allclose(FrozenBackbone(backbone).features(torch.as_tensor(images)), expected, atol=1e-6)


# image sizes


@pytest.mark.parametrize(
    ("name", "size", "right"),
    [
        ("alexnet", 62, "take 63 or more"),
        ("vgg16", 31, "take 32 or more"),
        ("inception_v3", 74, "take 75 or more"),
        ("densenet121", 28, "take 29 or more"),
        ("efficientnet_v2_s", 32, "take 33 or more"),
        ("vit_b_16", 225, "take a multiple of 16, such as 224 or 240"),
        ("vit_b_32", 16, "take a multiple of 32, such as 32"),
        ("vit_h_14", 224 + 1, "take a multiple of 14, such as 224 or 238"),
        ("maxvit_t", 256, "take a multiple of 224, such as 224 or 448"),
    ],
)
def test_an_image_size_that_cannot_work_is_refused_with_one_that_does(name, size, right):
    with pytest.raises(HyperparameterError, match=rf"^image_size={size} .*{name}.*{right}$"):
        build_backbone(name, size)


def test_the_smallest_sizes_can_be_trained():
    for name in ("alexnet", "vgg11_bn", "densenet121", "efficientnet_v2_s", "swin_v2_t", "squeezenet1_0"):
        size = smallest_size(name)
        build_on_meta(name, size).train()(torch.zeros(2, 3, size, size, device="meta"))


def test_every_size_that_is_named_as_the_smallest_is_allowed():
    for name in BACKBONES:
        check_image_size(name, smallest_size(name))


# weights of torchvision's own files


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_second_classifiers_in_a_file_are_passed_over(name, tmp_path):
    network = getattr(torchvision.models, name)(weights=None, init_weights=False, aux_logits=True, transform_input=True)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone(name, 75)
    load_weights(backbone, name, tmp_path / "weights.pth")
    network.fc = nn.Identity()
    images = torch.randn(2, 3, 75, 75)
    with torch.inference_mode():
        assert torch.equal(backbone.eval()(images), network.eval()(images))


def test_a_vision_transformer_file_with_the_layer_names_of_2021_fits():
    network = torchvision.models.vit_b_32(weights=None, image_size=32)
    state = {
        key.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): value
        for key, value in network.state_dict().items()
    }
    backbone = build_backbone("vit_b_32", 32)
    fill_backbone(backbone, "vit_b_32", state, "here")
    network.heads = nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(backbone.eval()(images), network.eval()(images))


def test_positions_of_a_vision_transformer_are_interpolated_for_another_image_size():
    state = build_backbone("vit_b_32", 64).state_dict()
    state["encoder.pos_embedding"] = torch.arange(5.0).reshape(1, 5, 1).expand(1, 5, 768).clone()
    backbone = build_backbone("vit_b_32", 96)
    fill_backbone(backbone, "vit_b_32", state, "here")
    positions = backbone.state_dict()["encoder.pos_embedding"][0, :, 0]
    assert positions.shape == (10,)
    corners = positions[[0, 1, 3, 7, 9]]  # of the class, then of the 3 x 3 patches
    assert torch.allclose(corners, torch.arange(5.0), atol=1e-5)
    assert torch.equal(backbone.state_dict()["conv_proj.weight"], state["conv_proj.weight"])


def test_positions_that_are_no_square_are_refused():
    state = build_backbone("vit_b_32", 64).state_dict()
    state["encoder.pos_embedding"] = torch.zeros(1, 4, 768)
    with pytest.raises(WeightsError, match="positions in here is not that of square images"):
        fill_backbone(build_backbone("vit_b_32", 96), "vit_b_32", state, "here")


def test_a_mnasnet_is_filled_from_a_state_dict_without_its_version(tmp_path):
    backbone = build_backbone("mnasnet0_5", 32)
    state = dict(build_backbone("mnasnet0_5", 32).state_dict())
    fill_backbone(backbone, "mnasnet0_5", state, "here")
    other = build_backbone("mnasnet0_5", 32)
    other.load_state_dict(backbone.state_dict())
    assert weights_fingerprint(backbone) == weights_fingerprint(other)
    assert torch.equal(backbone.state_dict()["layers.0.weight"], state["layers.0.weight"])


def test_a_classifier_of_several_layers_in_a_file_is_passed_over():
    network = torchvision.models.mobilenet_v2(weights=None)
    network.classifier = nn.Sequential(nn.Linear(1280, 8), nn.ReLU(), nn.Linear(8, 3))
    backbone = build_backbone("mobilenet_v2", 32)
    fill_backbone(backbone, "mobilenet_v2", network.state_dict(), "here")
    assert torch.equal(backbone.state_dict()["features.0.0.weight"], network.state_dict()["features.0.0.weight"])


def test_dropout_before_the_classifier_is_not_part_of_a_backbone():
    for name in ("mobilenet_v2", "efficientnet_b0", "mnasnet0_5", "squeezenet1_0"):
        last = list(build_on_meta(name, 64).get_submodule("classifier").children())
        assert not any(isinstance(module, nn.Dropout) for module in last)
