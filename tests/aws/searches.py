"""Searches of this suite: what they are asked for, and what they left."""

from kennel.tuning.summary import Summary, Trial
from tests.aws.conftest import REGION

PHOTOS = ("--data", "s3://photos/dogs", "--weights", "none")
RATE = ("--range", "learning_rate=1e-5:1e-1:log")
PAGE = f"https://{REGION}.console.aws.amazon.com/sagemaker/home?region={REGION}#/hyper-tuning-jobs/dogs"


def searches(sagemaker):
    """Return the names of the searches that the account has."""
    listed = sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    return [search["HyperParameterTuningJobName"] for search in listed]


def follow(kennel):
    return kennel("tune", "--on", "aws", "--resume", "dogs")


def interrupt(*arguments):
    raise KeyboardInterrupt


def small_summary():
    trials = [
        Trial(1, "Completed", {"learning_rate": "0.1"}, objective=0.7, seconds=3.0, curve=[0.6, 0.7]),
        Trial(2, "Completed", {"learning_rate": "0.01"}, objective=0.9, seconds=3.0, curve=[0.8, 0.9]),
    ]
    ranges = {"learning_rate": {"low": 1e-5, "high": 0.1, "scaling": "Logarithmic"}}
    static = {"epochs": "2", "weights": "none"}
    return Summary("dogs", "Completed", "Bayesian", "valid_accuracy", True, 6.5, static, ranges, trials)
