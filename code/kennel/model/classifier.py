"""The whole network: a backbone and a head."""

from torch import Tensor, nn

from kennel.model.backbones import build_backbone, count_features


def make_head(features: int, fc_units: int, dropout: float, classes: int) -> nn.Sequential:
    """Return `Linear → ReLU → Dropout → Linear`: (N, features) to (N, classes) logits."""
    return nn.Sequential(nn.Linear(features, fc_units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(fc_units, classes))


class Classifier(nn.Module):
    """A backbone and a head: (N, 3, S, S) normalized images to (N, classes) logits."""

    def __init__(self, backbone: str, fc_units: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.head = make_head(count_features(self.backbone), fc_units, dropout, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of `images`."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
