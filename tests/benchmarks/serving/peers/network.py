"""What the servers of the peers have in common: the network, and the usual way from a JPEG to a tensor."""

import io
import os

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

FEATURES = {"resnet18": ("fc", 512), "resnet50": ("fc", 2048), "mobilenet_v2": ("classifier", 1280)}
HIDDEN, CLASSES = 512, 133

to_tensor = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Network(nn.Module):
    """The network of Kennel's model folder, with the names of its weights."""

    def __init__(self, name: str) -> None:
        super().__init__()
        last, features = FEATURES[name]
        self.backbone = getattr(torchvision.models, name)(weights=None)
        setattr(self.backbone, last, nn.Identity())
        self.head = nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def load() -> nn.Module:
    """Return the network that the environment names, on one thread: there are as many workers as cores."""
    torch.set_num_threads(1)
    network = Network(os.environ["BENCH_NETWORK"])
    network.load_state_dict(torch.load(os.environ["BENCH_WEIGHTS"], weights_only=True))
    return network.eval()


def decode(data: bytes) -> Tensor:
    """Return the tensor (3, 224, 224) of a picture."""
    return to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))


@torch.inference_mode()
def probabilities(network: nn.Module, images: Tensor) -> list[list[float]]:
    """Return what the network says of a batch."""
    return torch.softmax(network(images), dim=1).tolist()
