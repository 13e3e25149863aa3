"""An inference.py as a course has people write it: JSON that says where a photo is, or the photo itself."""

import io
import json
import logging
import os
import sys

import requests
import torch
from model import net
from PIL import Image
from torchvision import transforms

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))
JSON_CONTENT_TYPE = "application/json"
JPEG_CONTENT_TYPE = "image/jpeg"


def model_fn(model_dir):
    logger.info("In model_fn. Model directory is -")
    logger.info(model_dir)
    model = net()
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location="cpu"))
    return model


def input_fn(request_body, content_type=JPEG_CONTENT_TYPE):
    logger.info("Deserializing the input data.")
    if content_type == JPEG_CONTENT_TYPE:
        return Image.open(io.BytesIO(request_body))
    if content_type == JSON_CONTENT_TYPE:
        request = json.loads(request_body)
        url = request["url"]
        logger.info(f"Downloading: {url}")
        img_content = requests.get(url, timeout=10).content
        return Image.open(io.BytesIO(img_content))
    raise Exception(f"Requested unsupported ContentType in content_type: {content_type}")


def predict_fn(input_object, model):
    logger.info("In predict fn")
    test_transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    input_object = test_transform(input_object)
    model.eval()
    with torch.no_grad():
        prediction = model(input_object.unsqueeze(0))
    return prediction
