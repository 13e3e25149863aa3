"""Searches that people made by hand, again and again."""

from kennel.hyperparameters import Range
from kennel_cli.tune.plan import Plan

PRESETS = {
    "resnet50-head": Plan(
        ranges={
            "learning_rate": Range(1e-5, 1e-3, "Logarithmic"),
            "batch_size": Range(choices=("64", "128")),
            "dropout": Range(0.2, 0.5),
            "optimizer": Range(choices=("adam", "rmsprop")),
            "fc_units": Range(choices=("256", "512")),
        },
        static={"backbone": "resnet50", "epochs": "4"},
        jobs=8,
    ),
    "resnet18-simple": Plan(
        ranges={
            "batch_size": Range(choices=("32", "64", "128", "256")),
            "learning_rate": Range(1e-3, 1e-1, "Logarithmic"),
        },
        static={"backbone": "resnet18"},
    ),
    "densenet161": Plan(
        ranges={
            "learning_rate": Range(1e-5, 1e-1, "Logarithmic"),
            "batch_size": Range(choices=("32", "64", "128", "256")),
            "epochs": Range(5, 20),
        },
        static={"backbone": "densenet161"},
    ),
    "adamw": Plan(
        ranges={
            "learning_rate": Range(1e-5, 1e-2, "Logarithmic"),
            "weight_decay": Range(1e-5, 1e-1, "Logarithmic"),
            "epochs": Range(5, 20),
            "batch_size": Range(choices=("32", "64", "128", "256")),
        },
        static={"optimizer": "adamw"},
    ),
}
