import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
import torchvision

from kennel.cache import Cache
from kennel.errors import WeightsError
from kennel.hyperparameters import BACKBONES
from kennel.model import weights
from kennel.model.backbones import build_backbone, load_weights
from kennel.model.weights import SITE, download, find_weights, link_for_torchvision, published_files
from kennel.model.weights_files import weights_at_hand
from tests.sites import listening


@pytest.fixture
def find(tmp_path):
    """Look for the weights of a resnet18, among folders that are empty unless the test fills them."""
    (tmp_path / "baked").mkdir()

    def look(asked="pretrained", backbone="resnet18", **channels):
        return find_weights(asked, backbone, channels, tmp_path / "baked", Cache(tmp_path / "cache"))

    return look


@pytest.fixture(autouse=True)
def no_cache_of_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with files, and the list of what was asked of it."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            asked.append(arguments[0])

    (tmp_path / "site").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "site")
    with listening(handler) as server:
        monkeypatch.setenv(SITE, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield tmp_path / "site", asked


# the order


def test_a_named_file_comes_first_then_the_channel_then_the_image(find, tmp_path):
    folder = tmp_path / "channel"
    folder.mkdir()
    (folder / "whatever its name.pth").touch()
    baked = tmp_path / "baked" / "resnet18.pth"
    baked.touch()
    assert find("/some/file.pth", pretrained=folder) == (tmp_path / "/some/file.pth")
    assert find(pretrained=folder) == folder / "whatever its name.pth"
    assert find() == baked


def test_a_file_in_the_image_may_have_torchvisions_name(find, tmp_path):
    file = tmp_path / "baked" / "mobilenet_v2-b0353104.pth"
    file.touch()
    assert find(backbone="mobilenet_v2") == file


def test_of_several_files_in_the_channel_the_backbones_own_is_taken(find, tmp_path):
    for name in ("resnet18.pth", "resnet50.pth", "._resnet18.pth"):
        (tmp_path / name).touch()
    assert find(pretrained=tmp_path) == tmp_path / "resnet18.pth"
    with pytest.raises(WeightsError, match=r"called vgg16; found: resnet18.pth, resnet50.pth$"):
        find(backbone="vgg16", pretrained=tmp_path)


def test_an_empty_channel_is_said(find, tmp_path):
    with pytest.raises(WeightsError, match=r"channel `pretrained` should hold one .* found: none"):
        find(pretrained=tmp_path / "channel")


# torchvision's own files


def test_every_backbone_has_a_published_file_and_the_first_is_what_pretrained_stood_for():
    assert all(published_files(name) for name in BACKBONES)
    assert published_files("resnet50") == ["resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"]
    assert published_files("vgg16") == ["vgg16-397923af.pth"]
    assert published_files("vit_h_14")[0] == "vit_h_14_lc_swag-c1eb923e.pth"  # the one for 224 pixels


def publish(site, monkeypatch, content, digest=None):
    """Put a file on the site, and let it be the one that torchvision has published for the resnet18."""
    name = f"resnet18-{(digest or hashlib.sha256(content).hexdigest())[:8]}.pth"
    (site / name).write_bytes(content)
    monkeypatch.setattr(weights, "published_files", lambda backbone: [name])
    return name


def test_weights_are_downloaded_once_and_fit(find, site, monkeypatch, resnet18_weights):
    name = publish(site[0], monkeypatch, resnet18_weights.read_bytes())
    file = find()
    assert file.name == name
    load_weights(build_backbone("resnet18", 32), "resnet18", file)
    asked = len(site[1])
    assert find() == file
    assert len(site[1]) == asked


def test_two_jobs_download_a_file_once(site, monkeypatch, tmp_path):
    name = publish(site[0], monkeypatch, b"x" * 2**20)
    found = []
    jobs = [
        threading.Thread(target=lambda: found.append(download("resnet18", Cache(tmp_path / "cache")))) for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [file.name for file in found] == [name] * 3
    assert len(site[1]) == 2  # whether it is there, and the file


def test_a_file_that_is_not_the_published_one_is_refused_and_leaves_nothing(find, site, monkeypatch, tmp_path):
    publish(site[0], monkeypatch, b"another file", digest="0" * 64)
    with pytest.raises(WeightsError, match="invalid hash value"):
        find()
    assert list((tmp_path / "cache").rglob("*.pth")) == []


def test_a_file_that_the_site_does_not_have_is_said(find, site):
    with pytest.raises(WeightsError, match="HTTP Error 404"):
        find()


def test_torchs_own_cache_is_read(find, tmp_path):
    file = tmp_path / "torch" / "hub" / "checkpoints" / published_files("resnet18")[0]
    file.parent.mkdir(parents=True)
    file.touch()
    assert find() == file


def test_without_a_network_all_ways_are_said_soon(find, monkeypatch):
    monkeypatch.setenv(SITE, "http://127.0.0.1:1")
    begun = time.monotonic()
    with pytest.raises(WeightsError) as error:
        find()
    assert time.monotonic() - begun < 3
    for way in ("channel `pretrained`", "path as `weights`", "weights=none", "WEIGHTS_DIR", "a network"):
        assert way in str(error.value)


def test_a_site_that_says_nothing_is_given_up(find, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT", 0.2)
    with http.server.socketserver.TCPServer(("127.0.0.1", 0), None) as silent:  # accepts, and never answers
        monkeypatch.setenv(SITE, f"http://127.0.0.1:{silent.server_address[1]}")
        with pytest.raises(WeightsError, match=r"timed out|no answer"):
            find()


def test_finding_weights_does_not_import_the_compiler():
    code = "import sys, kennel.model.start; sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# for users' scripts


def test_an_unmodified_script_finds_the_weights_without_a_network(tmp_path, resnet18_weights):
    baked, home = tmp_path / "baked", tmp_path / "home"
    baked.mkdir()
    (baked / "resnet18.pth").symlink_to(resnet18_weights)
    assert link_for_torchvision(home, weights_at_hand({}, baked)) == published_files("resnet18")
    script = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from torchvision import models\n"
        "network = models.resnet18(pretrained=True); models.resnet18(weights='DEFAULT')\n"
        "print(network.fc.weight.sum().item())"
    )
    environment = {**os.environ, "TORCH_HOME": str(home), "https_proxy": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(torch.load(resnet18_weights, weights_only=True))
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(network.fc.weight.sum().item())


def test_the_channel_comes_before_the_image_and_both_before_nothing(tmp_path):
    channel, baked, home = tmp_path / "channel", tmp_path / "baked", tmp_path / "home"
    for folder in (channel, baked):
        folder.mkdir()
        (folder / "resnet50.pth").touch()
    (baked / "mobilenet_v2-7ebf99e0.pth").touch()
    (baked / "vgg16.safetensors").touch()  # torchvision could not read it
    (baked / "my own.pth").touch()
    linked = link_for_torchvision(home, weights_at_hand({"pretrained": channel}, baked))
    assert sorted(linked) == ["mobilenet_v2-7ebf99e0.pth", *published_files("resnet50")]
    checkpoints = home / "hub" / "checkpoints"
    assert (checkpoints / "resnet50-0676ba61.pth").resolve() == (channel / "resnet50.pth").resolve()
    assert sorted(file.name for file in checkpoints.iterdir()) == sorted(linked)
    assert link_for_torchvision(home, weights_at_hand({"pretrained": channel}, baked)) == []
    assert link_for_torchvision(tmp_path / "empty", weights_at_hand({}, tmp_path / "no such folder")) == []
    assert not (tmp_path / "empty").exists()


def test_a_script_without_weights_at_hand_does_not_wait_for_torch(tmp_path):
    """Which takes some four seconds; in a container the same lines run before each script."""
    code = (
        "import sys; from pathlib import Path; import kennel.container.hook; from kennel.model import weights_files\n"
        "sys.exit(bool(weights_files.weights_at_hand({}, Path('none'))) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
