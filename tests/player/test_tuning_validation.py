"""What a tuning request must not ask for, and what is said of it; a request at each limit is taken."""

import copy
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from kennel_cli.platforms.trials import best_trial, final_objective, trial_request
from kennel_cli.platforms.tuning_validation import validate_tuning
from kennel_cli.platforms.validation import validate
from kennel_cli.platforms.warm_start import difference, parents_of
from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL

STATIC = {"backbone": "resnet18", "epochs": "4"}
SHARED = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
)


@pytest.fixture
def request_():
    """A valid request; each test changes its own copy."""
    job = training_job("unused", {"training": "s3://bucket/images"}, {}, LOCAL)
    return copy.deepcopy(
        {
            "HyperParameterTuningJobName": "dogs",
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "valid_accuracy"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": 8, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": {
                    "ContinuousParameterRanges": [{"Name": "learning_rate", "MinValue": "1e-05", "MaxValue": "0.1"}],
                    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["32", "64"]}],
                },
                "TrainingJobEarlyStoppingType": "Off",
            },
            "TrainingJobDefinition": {"StaticHyperParameters": STATIC, **{member: job[member] for member in SHARED}},
        }
    )


def config_of(request):
    return request["HyperParameterTuningJobConfig"]


def definition_of(request):
    return request["TrainingJobDefinition"]


def put(request, *path_and_value):
    """Set one member, deep in the request."""
    *path, last, value = path_and_value
    for part in path:
        request = request.setdefault(part, {}) if isinstance(part, str) else request[part]
    request[last] = value


def remove(request, *path):
    *path, last = path
    for part in path:
        request = request[part]
    del request[last]


CONFIG, DEFINITION = "HyperParameterTuningJobConfig", "TrainingJobDefinition"


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


def setting(*path_and_value):
    return lambda request: put(request, *path_and_value)


def without(*path):
    return lambda request: remove(request, *path)


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


def statics(count):
    return setting(DEFINITION, "StaticHyperParameters", {f"s{n}": "1" for n in range(count)})


def parents(count):
    names = [{"HyperParameterTuningJobName": f"parent-{n}"} for n in range(count)]
    return setting("WarmStartConfig", {"ParentHyperParameterTuningJobs": names, "WarmStartType": "TransferLearning"})


def environment(count):
    return setting(DEFINITION, "Environment", {f"NAME_{n}": "value" for n in range(count)})


def both(*changes):
    def change(request):
        for one in changes:
            one(request)

    return change


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


# Warm start


def child_of(parent, kind="TransferLearning"):
    child = copy.deepcopy(parent)
    child["WarmStartConfig"] = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "dogs"}],
        "WarmStartType": kind,
    }
    return child


def test_parents_are_found_by_name_b10(request_):
    assert parents_of(request_) == []
    assert parents_of(child_of(request_)) == ["dogs"]


@pytest.mark.parametrize(
    "change",
    [
        lambda request: None,
        setting(CONFIG, "ParameterRanges", "ContinuousParameterRanges", 0, "MaxValue", "0.01"),
        setting(DEFINITION, "StaticHyperParameters", "epochs", "8"),
        setting(CONFIG, "Strategy", "Random"),
        both(  # a hyperparameter that was static is tuned
            without(DEFINITION, "StaticHyperParameters", "epochs"),
            setting(
                CONFIG,
                "ParameterRanges",
                "IntegerParameterRanges",
                [{"Name": "epochs", "MinValue": "1", "MaxValue": "9"}],
            ),
        ),
    ],
)
def test_a_search_may_differ_from_its_parent_in_ranges_and_some_static_values_b10(request_, change):
    child = child_of(request_, "IdenticalDataAndAlgorithm")
    change(child)
    assert difference(request_, child) == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (setting(CONFIG, "HyperParameterTuningJobObjective", "MetricName", "valid_loss"), "has the objective"),
        (setting(CONFIG, "HyperParameterTuningJobObjective", "Type", "Minimize"), "has the objective"),
        (setting(DEFINITION, "StaticHyperParameters", "seed", "1"), "has other hyperparameters (seed)"),
        (without(DEFINITION, "StaticHyperParameters", "epochs"), "has other hyperparameters (epochs)"),
        (setting(DEFINITION, "InputDataConfig", 0, "ChannelName", "train"), "has other data or another image"),
        (setting(DEFINITION, "AlgorithmSpecification", "TrainingImage", "other"), "has other data or another image"),
    ],
)
def test_a_search_that_differs_too_much_from_its_parent_is_told_in_what_b10(request_, change, complaint):
    child = child_of(request_, "IdenticalDataAndAlgorithm")
    change(child)
    assert complaint in difference(request_, child)


def test_other_data_may_be_learned_from_with_transfer_learning_b10(request_):
    child = child_of(request_)
    put(child, DEFINITION, "InputDataConfig", 0, "ChannelName", "train")
    assert difference(request_, child) == ""


def test_ten_static_values_may_be_others_than_a_parents_b10(request_):
    statics(12)(request_)
    child = child_of(request_)
    for number in range(10):
        put(child, DEFINITION, "StaticHyperParameters", f"s{number}", "2")
    assert difference(request_, child) == ""
    put(child, DEFINITION, "StaticHyperParameters", "s10", "2")
    assert difference(request_, child) == "differs in 11 static hyperparameters; 10 are the most"


# The training jobs

VALUES = {"learning_rate": "0.01", "batch_size": "32"}


def test_a_training_job_has_the_static_and_tuned_values_and_the_objective_b3_b4(request_):
    both(environment(2), setting(DEFINITION, "EnableNetworkIsolation", True))(request_)
    job = trial_request(request_, 7, VALUES)
    validate("CreateTrainingJob", job)
    assert job["HyperParameters"] == {**STATIC, **VALUES, "_tuning_objective_metric": "valid_accuracy"}
    assert job["TrainingJobName"].startswith("dogs-007-")
    shared = {**definition_of(request_)}
    del shared["StaticHyperParameters"]
    assert {name: job[name] for name in shared} == shared


def test_a_training_jobs_name_tells_its_hyperparameters_apart(request_):
    name = trial_request(request_, 7, VALUES)["TrainingJobName"]
    assert trial_request(request_, 7, dict(reversed(VALUES.items())))["TrainingJobName"] == name
    assert trial_request(request_, 7, {**VALUES, "batch_size": "64"})["TrainingJobName"] != name
    put(request_, "HyperParameterTuningJobName", "d" * 32)
    assert len(trial_request(request_, 10_000, VALUES)["TrainingJobName"]) <= 63


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 9},
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 9},
        ),
        (
            {
                "InstanceConfigs": [
                    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
                    {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 8},
                ]
            },
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
        ),
    ],
)
def test_of_several_instances_the_first_is_taken_b3_b12(request_, given, taken):
    remove(request_, DEFINITION, "ResourceConfig")
    put(request_, DEFINITION, "HyperParameterTuningResourceConfig", given)
    job = trial_request(request_, 1, VALUES)
    validate("CreateTrainingJob", job)
    assert job["ResourceConfig"] == taken


OBJECTIVE = {"Type": "Maximize", "MetricName": "valid_accuracy"}


@pytest.mark.parametrize(
    ("status", "metrics", "expected"),
    [
        ("InProgress", {"valid_accuracy": 0.5}, "Pending"),
        ("Completed", {"valid_accuracy": 0.5}, "Succeeded"),
        ("Stopped", {"valid_accuracy": 0.5}, "Succeeded"),
        ("Failed", {"valid_accuracy": 0.5}, "Failed"),
        ("Completed", {"valid_loss": 0.5}, "Failed"),
        ("Stopped", {}, "Failed"),
    ],
)
def test_an_objective_is_known_when_the_job_ended_and_had_printed_it_b5(status, metrics, expected):
    data = [{"MetricName": name, "Value": value} for name, value in metrics.items()]
    found = final_objective({"TrainingJobStatus": status, "FinalMetricDataList": data}, OBJECTIVE)
    assert found["ObjectiveStatus"] == expected
    value = found.get("FinalHyperParameterTuningJobObjectiveMetric")
    assert value == ({**OBJECTIVE, "Value": 0.5} if expected == "Succeeded" else None)


def test_the_best_training_job_is_the_earliest_with_the_best_objective_b5():
    def job(number, status, value):
        data = [{"MetricName": "valid_accuracy", "Value": value}]
        return {
            "TrainingJobName": f"dogs-{number:03}",
            "TrainingJobStatus": status,
            "CreationTime": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
            **final_objective({"TrainingJobStatus": status, "FinalMetricDataList": data}, OBJECTIVE),
        }

    jobs = [job(1, "Failed", 0.99), job(1000, "Completed", 0.9), job(999, "Stopped", 0.9), job(4, "Completed", 0.1)]
    assert best_trial(jobs, "Maximize")["TrainingJobName"] == "dogs-999"
    assert best_trial(jobs, "Minimize")["TrainingJobName"] == "dogs-004"
    assert best_trial(jobs[:1], "Maximize") is None


def test_trials_that_train_a_network_beside_others_share_the_cores(monkeypatch):
    from kennel_cli.platforms.trials import trial_request

    monkeypatch.setattr("kennel.machine.available_cores", lambda: 8)
    config = {"HyperParameterTuningJobObjective": {"MetricName": "valid_loss"}, "ResourceLimits": {}}
    definition = {"AlgorithmSpecification": {}, "ResourceConfig": {}, "Environment": {"A": "b"}}
    tuning = {
        "HyperParameterTuningJobName": "search",
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
    }

    def environment(parallel, **hyperparameters):
        config["ResourceLimits"]["MaxParallelTrainingJobs"] = parallel
        return trial_request(tuning, 1, hyperparameters)["Environment"]

    assert environment(4, unfreeze="all") == {"KENNEL_CORES": "2", "A": "b"}
    assert environment(16, weights="none") == {"KENNEL_CORES": "1", "A": "b"}
    assert environment(1, unfreeze="all") == environment(4) == environment(4, weights="no such=1", x="y") == {"A": "b"}
