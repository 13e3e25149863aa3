"""The network: a torchvision backbone, a small head, and the folder they are kept in."""
