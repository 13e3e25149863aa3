"""An inference.py as a course has people write it: `model_fn` alone, and a state dict."""

import logging
import os
import sys

import torch
from torch import nn
from torchvision import models

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))


def net():
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    num_features = model.fc.in_features
    model.fc = nn.Sequential(nn.Linear(num_features, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
    return model


def model_fn(model_dir):
    print("in model_fn, the folder is", model_dir)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = net().to(device)
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        logger.info("loading the dog classifier")
        model.load_state_dict(torch.load(f, map_location=device))
    return model
