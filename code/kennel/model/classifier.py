"""The whole network: a backbone and a head."""

from torch import Tensor, nn

from kennel.model.backbones import count_features


def make_head(backbone: nn.Module, fc_units: int, dropout: float, classes: int) -> nn.Sequential:
    """Return `Linear → ReLU → Dropout → Linear`: (N, features) of the backbone to (N, classes) logits."""
    features = count_features(backbone)
    return nn.Sequential(nn.Linear(features, fc_units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(fc_units, classes))


class Classifier(nn.Module):
    """A backbone and a head: (N, 3, S, S) normalized images to (N, classes) logits."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of `images`."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
