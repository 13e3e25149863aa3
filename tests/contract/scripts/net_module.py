"""The `model.py` beside an inference.py."""

from torch import nn
from torchvision import models


def net():
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    num_features = model.fc.in_features
    model.fc = nn.Sequential(nn.Linear(num_features, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
    return model
