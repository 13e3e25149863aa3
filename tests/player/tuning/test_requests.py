"""What a tuning request must not ask for, and what is said of it; a request at each limit is taken."""

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from kennel_cli.platforms.tuning_validation import validate_tuning
from tests.player.tuning.requests import (
    CONFIG,
    DEFINITION,
    both,
    config_of,
    environment,
    put,
    setting,
    statics,
    without,
)


def strategy(name, jobs=8, **more):
    """Return a change that sets the strategy."""

    def change(request):
        config = config_of(request)
        config["Strategy"] = name
        config["ResourceLimits"].pop("MaxNumberOfTrainingJobs")
        if jobs is not None:
            config["ResourceLimits"]["MaxNumberOfTrainingJobs"] = jobs
        config.update(more)

    return change


def grid(counts, jobs=None):
    """Return a change to a grid of so many values for each hyperparameter."""
    ranges = [{"Name": f"p{n}", "Values": [str(v) for v in range(count)]} for n, count in enumerate(counts)]
    return strategy("Grid", jobs, ParameterRanges={"CategoricalParameterRanges": ranges})


def tuned(count):
    """Return a change to so many tuned hyperparameters, all in all 30 of a kind at most."""
    ranges = [{"Name": f"p{n}", "MinValue": "1", "MaxValue": "9"} for n in range(count)]
    return setting(
        CONFIG,
        "ParameterRanges",
        {"IntegerParameterRanges": ranges[:20], "ContinuousParameterRanges": ranges[20:]},
    )


def parents(count):
    names = [{"HyperParameterTuningJobName": f"parent-{n}"} for n in range(count)]
    return setting("WarmStartConfig", {"ParentHyperParameterTuningJobs": names, "WarmStartType": "TransferLearning"})


def hyperband(**given):
    return {"HyperbandStrategyConfig": given}


TWICE = [{"Name": "valid_accuracy", "Regex": "a=(.*)"}, {"Name": "valid_accuracy", "Regex": "b=(.*)"}]

ACCEPTED = {
    "as it is": lambda request: None,
    "Random": strategy("Random"),
    "Hyperband, with the static epochs": strategy("Hyperband"),
    "Hyperband, as configured": both(
        strategy("Hyperband", StrategyConfig=hyperband(MinResource=1, MaxResource=9)),
        without(DEFINITION, "StaticHyperParameters"),
    ),
    "Hyperband, as short as it is long": strategy("Hyperband", StrategyConfig=hyperband(MinResource=4)),
    "Grid without a number of jobs": grid([2, 3]),
    "Grid with its number of jobs": grid([2, 3], jobs=6),
    "Grid of 750": grid([25, 30]),
    "early stopping": setting(CONFIG, "TrainingJobEarlyStoppingType", "Auto"),
    "750 jobs": strategy("Bayesian", 750),
    "750 jobs of Hyperband": strategy("Hyperband", 750),
    "10,000 random jobs": strategy("Random", 10_000),
    "100 at a time": setting(CONFIG, "ResourceLimits", "MaxParallelTrainingJobs", 100),
    "30 days": setting(CONFIG, "ResourceLimits", "MaxRuntimeInSeconds", 30 * 24 * 3600),
    "30 ranges": tuned(30),
    "99 hyperparameters and the tuner's own": both(tuned(30), statics(69)),
    "a name of 32": setting("HyperParameterTuningJobName", "d" * 32),
    "48 variables": environment(48),
    "5 parents": parents(5),
    "a criterion": setting(
        CONFIG,
        "TuningJobCompletionCriteria",
        {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}, "TargetObjectiveMetricValue": 0.9},
    ),
    "a seed": setting(CONFIG, "RandomSeed", 0),
    "instances to choose from": both(
        without(DEFINITION, "ResourceConfig"),
        setting(
            DEFINITION,
            "HyperParameterTuningResourceConfig",
            {"InstanceConfigs": [{"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9}] * 6},
        ),
    ),
}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_a_request_within_the_limits_is_taken_b1_b2_b7_b8_b9_b11(request_, change):
    change(request_)
    validate_tuning(request_)


REFUSED = {
    # the space (B2)
    "31 ranges": (tuned(31), "31 hyperparameters are tuned; 30 are the most"),
    "100 hyperparameters and the tuner's own": (
        both(tuned(30), statics(70)),
        "101 hyperparameters, with _tuning_objective_metric; 100 are the most",
    ),
    "static and tuned": (
        setting(DEFINITION, "StaticHyperParameters", {"batch_size": "8", "learning_rate": "1"}),
        "batch_size, learning_rate: given as a static hyperparameter and as a range",
    ),
    "a bad range": (
        setting(CONFIG, "ParameterRanges", "ContinuousParameterRanges", 0, "MinValue", "5"),
        "learning_rate: the smallest value 5 is above the largest, 0.1",
    ),
    "two ranges of a name": (
        setting(CONFIG, "ParameterRanges", "CategoricalParameterRanges", 0, "Name", "learning_rate"),
        "learning_rate: has 2 ranges; give it one",
    ),
    "no range": (setting(CONFIG, "ParameterRanges", {}), "there is no range to search"),
    "no ranges": (without(CONFIG, "ParameterRanges"), "ParameterRanges is missing in HyperParameterTuningJobConfig"),
    "AutoParameters": (
        setting(CONFIG, "ParameterRanges", "AutoParameters", [{"Name": "x", "ValueHint": "1"}]),
        "AutoParameters are not supported here; give each hyperparameter a range",
    ),
    "31 values": (grid([31]), "must have length less than or equal to 30"),
    # the objective (B5)
    "an objective that nothing yields": (
        setting(CONFIG, "HyperParameterTuningJobObjective", "MetricName", "f1"),
        "the objective metric f1 is not among the MetricDefinitions, which yield: train_loss, train_accuracy, valid_",
    ),
    "no MetricDefinitions": (
        without(DEFINITION, "AlgorithmSpecification", "MetricDefinitions"),
        "is not among the MetricDefinitions, which yield: none",
    ),
    "a Regex without a group": (
        setting(
            DEFINITION,
            "AlgorithmSpecification",
            "MetricDefinitions",
            [{"Name": "valid_accuracy", "Regex": "accuracy=.*"}],
        ),
        "the Regex of valid_accuracy, 'accuracy=.*', is none or has no group",
    ),
    "a Regex that is none": (
        setting(DEFINITION, "AlgorithmSpecification", "MetricDefinitions", [{"Name": "valid_accuracy", "Regex": "(("}]),
        "the Regex of valid_accuracy, '((', is none or has no group",
    ),
    "a metric defined twice": (
        setting(DEFINITION, "AlgorithmSpecification", "MetricDefinitions", TWICE),
        "MetricDefinitions define valid_accuracy 2 times; define it once",
    ),
    "no objective": (
        without(CONFIG, "HyperParameterTuningJobObjective"),
        "HyperParameterTuningJobObjective is missing in HyperParameterTuningJobConfig",
    ),
    "an objective of another type": (
        setting(CONFIG, "HyperParameterTuningJobObjective", "Type", "Best"),
        "Member must satisfy enum value set: [Maximize, Minimize]",
    ),
    # the limits (B11)
    "751 jobs": (strategy("Bayesian", 751), "MaxNumberOfTrainingJobs is 751; Bayesian takes 750 at most"),
    "751 jobs of Hyperband": (strategy("Hyperband", 751), "is 751; Hyperband takes 750 at most"),
    "10,001 random jobs": (strategy("Random", 10_001), "is 10001; Random takes 10000 at most"),
    "101 at a time": (
        setting(CONFIG, "ResourceLimits", "MaxParallelTrainingJobs", 101),
        "MaxParallelTrainingJobs is 101; 100 is the most",
    ),
    "more than 30 days": (
        setting(CONFIG, "ResourceLimits", "MaxRuntimeInSeconds", 30 * 24 * 3600 + 1),
        "MaxRuntimeInSeconds is 2592001; 2592000 (30 days) is the most",
    ),
    "a name of 33": (
        setting("HyperParameterTuningJobName", "d" * 33),
        "at 'hyperParameterTuningJobName' failed to satisfy constraint: Member must have length less than or equal to "
        "32",
    ),
    "a name with an underscore": (
        setting("HyperParameterTuningJobName", "d_1"),
        "at 'hyperParameterTuningJobName' failed to satisfy constraint: Member must satisfy regular expression pattern",
    ),
    "49 variables": (environment(49), "environment' failed to satisfy constraint: Member must have length less than"),
    "6 parents": (
        parents(6),
        "at 'warmStartConfig.parentHyperParameterTuningJobs' failed to satisfy constraint: Member must have length "
        "less than or equal to 5",
    ),
    # the strategies (B1, B7, B8)
    "an unknown strategy": (
        strategy("Guess"),
        "Member must satisfy enum value set: [Bayesian, Random, Hyperband, Grid]",
    ),
    "no number of jobs": (
        strategy("Random", None),
        "MaxNumberOfTrainingJobs is missing; only Grid can do without, and the strategy is Random",
    ),
    "Grid with a range of numbers": (
        strategy("Grid", None),
        "Grid tries every combination of categorical values; learning_rate has a range instead of values",
    ),
    "Grid with another number of jobs": (
        grid([2, 3], jobs=5),
        "MaxNumberOfTrainingJobs is 5, and the grid has 6 combinations; leave it out",
    ),
    "Grid of 754": (grid([26, 29]), "the grid has 754 combinations; 750 are the most, leave out some values"),
    "Hyperband and early stopping": (
        strategy("Hyperband", TrainingJobEarlyStoppingType="Auto"),
        "TrainingJobEarlyStoppingType is Auto; Hyperband stops trials by itself, set it to Off",
    ),
    "Hyperband without a length": (
        both(strategy("Hyperband"), without(DEFINITION, "StaticHyperParameters")),
        "Hyperband needs MaxResource, or a static hyperparameter `epochs`",
    ),
    "Hyperband that begins above its end": (
        strategy("Hyperband", StrategyConfig=hyperband(MinResource=9, MaxResource=3)),
        "MinResource 9 is above the 3 epochs",
    ),
    "Hyperband that begins above the static epochs": (
        strategy("Hyperband", StrategyConfig=hyperband(MinResource=5)),
        "MinResource 5 is above the 4 epochs",
    ),
    "Hyperband's settings without it": (
        strategy("Random", StrategyConfig=hyperband(MinResource=1, MaxResource=3)),
        "StrategyConfig is Hyperband's, and the strategy is Random; leave it out",
    ),
    # the training jobs (B3)
    "no definition": (without(DEFINITION), "TrainingJobDefinition is missing; TrainingJobDefinitions and Autotune are"),
    "no instance": (
        without(DEFINITION, "ResourceConfig"),
        "has neither ResourceConfig nor HyperParameterTuningResourceConfig",
    ),
    "no instance to choose from": (
        both(
            without(DEFINITION, "ResourceConfig"),
            setting(DEFINITION, "HyperParameterTuningResourceConfig", {"VolumeSizeInGB": 9}),
        ),
        "HyperParameterTuningResourceConfig has neither InstanceType nor InstanceConfigs",
    ),
}


@pytest.mark.parametrize(("change", "complaint"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses_is_refused_with_its_reason_b1_b2_b3_b5_b7_b8_b10_b11(request_, change, complaint):
    change(request_)
    with pytest.raises(ClientError) as caught:
        validate_tuning(request_)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert complaint in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (setting(DEFINITION, "AlgorithmSpecification", "ContainerEntrypoint", ["sh"]), '"ContainerEntrypoint"'),
        (setting(DEFINITION, "DebugHookConfig", {"S3OutputPath": "s3://b"}), '"DebugHookConfig"'),
        (setting(DEFINITION, "TensorBoardOutputConfig", {"S3OutputPath": "s3://b"}), '"TensorBoardOutputConfig"'),
        (without(DEFINITION, "StoppingCondition"), 'Missing required parameter in TrainingJobDefinition: "StoppingCo'),
        (without(CONFIG, "ResourceLimits", "MaxParallelTrainingJobs"), '"MaxParallelTrainingJobs"'),
        (setting(CONFIG, "RandomSeed", -1), "RandomSeed"),
        (
            setting(
                CONFIG,
                "TuningJobCompletionCriteria",
                {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 2}},
            ),
            "MaxNumberOfTrainingJobsNotImproving, value: 2, valid min value: 3",
        ),
    ],
)
def test_what_boto3_refuses_before_sending_is_refused_alike_b3_b9(request_, change, complaint):
    change(request_)
    with pytest.raises(ParamValidationError) as caught:
        validate_tuning(request_)
    assert complaint in str(caught.value)


def test_one_answer_lists_all_that_is_wrong(request_):
    both(strategy("Random", 10_001), setting(DEFINITION, "StaticHyperParameters", "batch_size", "8"))(request_)
    put(request_, CONFIG, "HyperParameterTuningJobObjective", "MetricName", "f1")
    with pytest.raises(ClientError) as caught:
        validate_tuning(request_)
    message = caught.value.response["Error"]["Message"]
    assert "objective metric f1" in message
    assert "batch_size: given as a static" in message
    assert "10001" in message
