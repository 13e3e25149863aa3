"""A tuning job's script as a course has people write it: a frozen resnet18 with a new last layer."""

import argparse
import os

import torch
from PIL import ImageFile
from torch import nn, optim
from torchvision import datasets, models, transforms

ImageFile.LOAD_TRUNCATED_IMAGES = True


def make_net(class_count):
    net = models.resnet18(pretrained=True)
    for parameter in net.parameters():
        parameter.requires_grad = False
    net.fc = nn.Sequential(nn.Linear(net.fc.in_features, 32), nn.ReLU(inplace=True), nn.Linear(32, class_count))
    return net


def make_loaders(root, batch_size):
    to_train = transforms.Compose(
        [transforms.RandomResizedCrop(64), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    to_test = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    loaders = {}
    for split, transform in (("train", to_train), ("valid", to_test), ("test", to_test)):
        images = datasets.ImageFolder(os.path.join(root, split), transform=transform)
        loaders[split] = torch.utils.data.DataLoader(images, batch_size=batch_size, shuffle=split == "train")
    return loaders


def train(net, loader, criterion, optimizer, device):
    net.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()


def test(net, loader, criterion, device):
    net.eval()
    total, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            output = net(images)
            total += criterion(output, labels).item() * images.size(0)
            correct += torch.sum(output.argmax(dim=1) == labels.data).item()
    count = len(loader.dataset)
    print(f"Test set: Average loss: {total / count:.4f}, Accuracy: {correct}/{count}")


def main(args):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaders = make_loaders(args.data, args.batch_size)
    net = make_net(len(loaders["train"].dataset.classes)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.fc.parameters(), lr=args.lr)
    for _ in range(args.epochs):
        train(net, loaders["train"], criterion, optimizer, device)
        test(net, loaders["valid"], criterion, device)
    test(net, loaders["test"], criterion, device)
    torch.save(net.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--data", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model_dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output_dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
