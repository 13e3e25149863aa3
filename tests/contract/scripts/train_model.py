"""A training job's script as a course has people write it: with SageMaker Debugger's hook, and its profiler's modes."""

import argparse
import json
import os

import smdebug.pytorch as smd
import torch
from smdebug import modes
from smdebug.profiler.utils import str2bool
from torch import nn, optim
from torchvision import datasets, models, transforms


def run(net, loader, criterion, hook, mode, optimizer=None):
    """One pass over the images of a loader; returns mean loss and accuracy."""
    if hook:
        hook.set_mode(mode)
    net.train(optimizer is not None)
    total, correct = 0.0, 0
    for images, labels in loader:
        with torch.set_grad_enabled(optimizer is not None):
            output = net(images)
            loss = criterion(output, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * len(labels)
        correct += (output.argmax(1) == labels).sum().item()
    return total / len(loader.dataset), correct / len(loader.dataset)


def main(args):
    hook = smd.get_hook(create_if_not_exists=True) if args.singleton else smd.Hook.create_from_json_file()
    net = models.resnet18(weights=models.ResNet18_Weights.DEFAULT)
    for parameter in net.parameters():
        parameter.requires_grad = False
    net.fc = nn.Linear(net.fc.in_features, 3)
    criterion = nn.CrossEntropyLoss()
    hook.register_module(net)
    hook.register_loss(criterion)
    optimizer = optim.AdamW(net.fc.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    transform = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor(), normalize])
    loaders = {
        split: torch.utils.data.DataLoader(
            datasets.ImageFolder(os.path.join(args.data_dir, split), transform), args.batch_size, split == "train"
        )
        for split in ("train", "valid", "test")
    }
    for epoch in range(args.epochs):
        loss, _ = run(net, loaders["train"], criterion, hook, modes.TRAIN, optimizer)
        valid_loss, accuracy = run(net, loaders["valid"], criterion, hook, modes.EVAL)
        print(f"epoch {epoch}: train loss {loss:.4f}; valid loss {valid_loss:.4f}; valid accuracy {accuracy:.4f}")
    loss, accuracy = run(net, loaders["test"], criterion, hook, modes.EVAL)
    with open(os.path.join(args.output_data_dir, "result.json"), "w") as file:
        json.dump({"loss": loss, "accuracy": accuracy, "steps": hook.step}, file)
    with open(os.path.join(args.model_dir, "model.pth"), "wb") as file:
        torch.save(net.state_dict(), file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--singleton", type=str2bool, default=False)
    parser.add_argument("--data-dir", default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-data-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    arguments, _ = parser.parse_known_args()
    main(arguments)
