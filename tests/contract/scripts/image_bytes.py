"""An inference.py as a course has people write it: the bytes of a photo in, probabilities out."""

import io
import json
import logging
import os
import sys

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody imports it
from model import net
from PIL import Image
from torchvision import transforms

JPEG_CONTENT_TYPE = "image/jpeg"
ACCEPTED_CONTENT_TYPE = [JPEG_CONTENT_TYPE]

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_fn(model_dir):
    model = net().to(device)
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location=device))
    model.eval()
    return model


def input_fn(request_body, content_type):
    logger.debug(f"Content type: {content_type}, body: {type(request_body)}")
    if content_type in ACCEPTED_CONTENT_TYPE:
        return Image.open(io.BytesIO(request_body))
    raise Exception(f"Requested unsupported ContentType: {content_type}, accepted: {ACCEPTED_CONTENT_TYPE}")


def predict_fn(input_object, model):
    preprocess = transforms.Compose(
        [
            transforms.Resize((32, 32)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    input_object = preprocess(input_object).unsqueeze(0).to(device)
    with torch.no_grad():
        prediction = model(input_object)
    return F.softmax(prediction, dim=1)


def output_fn(prediction, content_type):
    if content_type == "application/json":
        return json.dumps({"probabilities": prediction.cpu().numpy().tolist()})
    raise Exception(f"Requested unsupported Accept: {content_type}")
