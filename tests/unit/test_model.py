import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from kennel.engines.torch_engine import FrozenBackbone, TorchEngine
from kennel.errors import ArtifactError, WeightsError
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import load_artifact, new_classifier, save_artifact
from kennel.model.backbones import build_backbone, count_features, load_weights, weights_fingerprint
from kennel.model.manifest import Manifest, load_manifest
from tests.samples import save_random_model

CLASSIFIERS = {  # as they always were; all others are in test_backbones.py
    "resnet18": ("fc", 512),
    "resnet50": ("fc", 2048),
    "densenet161": ("classifier", 2208),
    "mobilenet_v2": ("classifier", 1280),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_backbone_is_torchvisions_network_without_its_classifier(name, tmp_path):
    attribute, features = CLASSIFIERS[name]
    network = getattr(torchvision.models, name)(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone(name)
    load_weights(backbone, name, tmp_path / "weights.pth")
    setattr(network, attribute, torch.nn.Identity())
    images = torch.rand(2, 3, 64, 64)
    assert count_features(backbone) == features
    with torch.inference_mode():
        assert torch.equal(backbone.eval()(images), network.eval()(images))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_model_folder_gives_back_the_same_network(name, tmp_path):
    save_random_model(tmp_path, name, image_size=64)
    classifier, manifest = load_artifact(tmp_path)
    again = save_random_model(tmp_path / "again", name, image_size=64)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(classifier(images), load_artifact(again)[0](images))
    assert manifest.classes == ("blue", "green", "red")
    assert manifest.preprocessing == Preprocessing.for_size(64)


# weights


def test_densenet_weights_with_the_layer_names_of_2017_fit(tmp_path):
    state = torchvision.models.densenet161(weights=None).state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    backbone = build_backbone("densenet161")
    load_weights(backbone, "densenet161", tmp_path / "old.pth")
    assert torch.equal(backbone.state_dict()["features.conv0.weight"], state["features.conv0.weight"])


def test_safetensors_and_wrapped_state_dicts_are_read(tmp_path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    fingerprints = set()
    for file in ("weights.safetensors", "checkpoint.pth"):
        backbone = build_backbone("resnet18")
        load_weights(backbone, "resnet18", tmp_path / file)
        fingerprints.add(weights_fingerprint(backbone))
    assert len(fingerprints) == 1


def test_weights_of_another_network_are_refused(resnet18_weights):
    with pytest.raises(WeightsError, match=r"does not hold the weights of resnet50: .* tensors are missing"):
        load_weights(build_backbone("resnet50"), "resnet50", resnet18_weights)


class Bomb:
    def __reduce__(self):
        return (print, ("code from a weights file was run",))


def test_code_in_a_weights_file_is_never_run(tmp_path, capsys):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"fc.weight": Bomb()}))
    torch.save({"fc.weight": Bomb()}, tmp_path / "zip-bomb.pth")
    for file in ("bomb.pth", "zip-bomb.pth"):
        with pytest.raises(WeightsError, match="no readable state dict"):
            load_weights(build_backbone("resnet18"), "resnet18", tmp_path / file)
    assert capsys.readouterr().out == ""


def test_missing_broken_and_foreign_files_are_refused(tmp_path):
    backbone = build_backbone("resnet18")
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_weights(backbone, "resnet18", tmp_path / "none.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(WeightsError, match="no readable state dict"):
        load_weights(backbone, "resnet18", tmp_path / "broken.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds list; it should hold a state dict"):
        load_weights(backbone, "resnet18", tmp_path / "list.pth")


def test_the_fingerprint_tells_weights_apart():
    one, other = build_backbone("resnet18"), build_backbone("resnet18")
    assert weights_fingerprint(one) != weights_fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert weights_fingerprint(one) == weights_fingerprint(other)


# model folders


def test_a_model_folder_holds_no_pickle(random_model):
    assert sorted(entry.name for entry in random_model.iterdir()) == ["kennel.json", "model.safetensors"]


def test_a_folder_without_a_model_is_refused_with_what_is_in_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ArtifactError, match=r"there is no kennel.json in it \(it has notes.txt\)"):
        load_artifact(tmp_path)


def test_damaged_and_incomplete_folders_are_refused(tmp_path):
    folder = save_random_model(tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ArtifactError, match=r"model.safetensors does not fit"):
        load_artifact(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="is incomplete"):
        load_artifact(folder)
    (folder / "kennel.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"kennel.json is damaged"):
        load_manifest(folder)


def test_a_format_of_the_future_is_refused(tmp_path):
    folder = save_random_model(tmp_path)
    text = (folder / "kennel.json").read_text()
    (folder / "kennel.json").write_text(text.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ArtifactError, match="format_version 99; this version of Kennel reads 1"):
        load_manifest(folder)


def test_weights_of_another_head_are_refused(tmp_path):
    folder = save_random_model(tmp_path)
    manifest = load_manifest(folder).model_copy(update={"fc_units": 7})
    (folder / "kennel.json").write_text(manifest.model_dump_json())
    with pytest.raises(ArtifactError, match="does not fit"):
        load_artifact(folder)


def test_saving_again_replaces_the_whole_model(tmp_path):
    folder = save_random_model(tmp_path)
    manifest = Manifest(
        classes=("a", "b"), backbone="resnet18", fc_units=4, dropout=0, preprocessing=Preprocessing.for_size(32)
    )
    save_artifact(folder, new_classifier(manifest), manifest)
    assert load_artifact(folder)[1].classes == ("a", "b")
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_folding_the_batch_norms_does_not_change_the_features(name):
    torch.manual_seed(0)
    backbone = build_backbone(name)
    images = torch.rand(8, 3, 64, 64)
    backbone.train()(images)  # so that the running statistics are not those of a fresh network
    with torch.inference_mode():
        expected = backbone.eval()(images)
    found = FrozenBackbone(backbone).features(images)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_network_to_be_trained_is_not_changed_by_reading_its_features():
    classifier = new_classifier(
        Manifest(
            classes=("a", "b", "c"),
            backbone="resnet18",
            fc_units=8,
            dropout=0.1,
            preprocessing=Preprocessing.for_size(32),
        )
    )
    before = weights_fingerprint(classifier)
    classifier.train()
    FrozenBackbone(classifier.backbone, torch.bfloat16).features(torch.zeros(1, 3, 64, 64))
    assert weights_fingerprint(classifier) == before
    assert all(module.training for module in classifier.modules())


def test_serving_does_not_import_the_compiler():
    code = "import sys, kennel.serving.app; sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_compiler_is_the_real_one_for_who_needs_it():
    code = (
        "import kennel.model.backbones, torch\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2\n"
        "import torchvision; assert torchvision.ops.nms is not None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_frozen_backbone_lets_go_of_the_weights_that_it_has_folded():
    backbone = build_backbone("resnet18")
    given, frozen = weakref.ref(backbone), FrozenBackbone(backbone)
    del backbone
    frozen.features(torch.zeros(1, 3, 32, 32))
    gc.collect()
    assert given() is None


def test_an_image_and_its_mirror_image_are_averaged_where_the_model_says_so(random_model):
    classifier, manifest = load_artifact(random_model)
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    plain = TorchEngine(classifier, manifest.preprocessing)
    both = TorchEngine(classifier, manifest.preprocessing, ("original", "mirrored"))
    expected = (plain.probabilities(images) + plain.probabilities(images[..., ::-1].copy())) / 2
    assert np.abs(both.probabilities(images) - expected).max() < 1e-6
    assert np.abs(both.probabilities(images) - plain.probabilities(images)).max() > 1e-3
