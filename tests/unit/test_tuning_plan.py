"""What to search: options, files, presets and the declared ranges become one request."""

import json

import pytest

from kennel.errors import HyperparameterError, SearchError
from kennel.hyperparameters import DECLARATIONS, Range, parse_hyperparameters
from kennel.tuning.space import parse_ranges as parse_request_ranges
from kennel_cli.platforms.tuning_validation import validate_tuning
from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from kennel_cli.tune.plan import (
    Plan,
    declared_ranges,
    make_plan,
    parse_ranges,
    read_plan,
    tuning_config,
)
from kennel_cli.tune.presets import PRESETS


def validate(plan):
    """Check the request that a plan makes as the service would."""
    job = training_job("unused", {"training": "s3://bucket/images"}, {}, LOCAL)
    members = ("AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig")
    definition = {member: job[member] for member in (*members, "StoppingCondition")}
    validate_tuning(
        {
            "HyperParameterTuningJobName": "dogs",
            "HyperParameterTuningJobConfig": tuning_config(plan),
            "TrainingJobDefinition": {**definition, "StaticHyperParameters": dict(plan.static)},
        }
    )


# Options


def test_without_anything_the_declared_ranges_are_searched():
    plan = make_plan(None)
    assert plan.ranges == declared_ranges()
    assert {"learning_rate", "batch_size", "optimizer", "epochs"} <= set(plan.ranges)
    assert plan.static == {}
    validate(plan)


def test_the_options_of_the_issue_are_understood():
    plan = make_plan(None, ["learning_rate=1e-5:1e-1:log"], ["batch_size=32,64,128"], ["epochs=4"])
    assert plan.ranges == {
        "learning_rate": Range(1e-5, 0.1, "Logarithmic"),
        "batch_size": Range(choices=("32", "64", "128")),
    }
    assert plan.static == {"epochs": "4"}
    validate(plan)


@pytest.mark.parametrize(
    ("text", "scaling"),
    [
        ("momentum=0.5:0.9", "Linear"),
        ("momentum=0.5:0.9:linear", "Linear"),
        ("momentum=0.5:0.9:log", "Logarithmic"),
        ("momentum=0.5:0.9:reverse-log", "ReverseLogarithmic"),
    ],
)
def test_a_range_has_the_scale_that_its_third_part_names_b2(text, scaling):
    assert parse_ranges([text], []) == {"momentum": Range(0.5, 0.9, scaling)}


def test_other_spellings_of_a_name_are_the_same_hyperparameter():
    plan = make_plan(None, ["lr=1e-4:1e-2:log"], ["batch-size=32,64"], ["fc-units=256"])
    assert list(plan.ranges) == ["learning_rate", "batch_size"]
    assert plan.static == {"fc_units": "256"}


def test_fixing_a_hyperparameter_takes_it_out_of_the_declared_space():
    plan = make_plan(None, static=["epochs=4"])
    assert set(plan.ranges) == set(declared_ranges()) - {"epochs"}


@pytest.mark.parametrize(
    ("ranges", "choices", "static", "complaint"),
    [
        (["dropuot=0:1"], [], [], "dropuot: there is no such hyperparameter; known are backbone, weights"),
        ([], ["colour=red,blue"], [], "colour: there is no such hyperparameter"),
        (["learning_rate=1e-5:100"], [], [], "learning_rate=100: must be a number from 1e-08 to 10"),
        (["epochs=0:5"], [], [], "epochs=0: must be a whole number from 1 to 1000"),
        (["epochs=1.5:5"], [], [], "epochs=1.5: must be a whole number from 1 to 1000"),
        (["learning_rate=nan:1"], [], [], "learning_rate=nan: must be a number from"),
        ([], ["optimizer=adam,lion"], [], "optimizer=lion: must be one of adam, adamw, rmsprop, sgd"),
        ([], ["batch_size=32,5000"], [], "batch_size=5000: must be a whole number from 1 to 4096"),
        ([], ["batch_size=32,,64"], [], "batch_size=: must be a whole number"),
        (["optimizer=adam:sgd"], [], [], "optimizer: takes one of adam, adamw, rmsprop, sgd; give --choice optimizer="),
        (["learning_rate=1e-5:1e-1:cubic"], [], [], "there is no scale 'cubic'; it is one of linear, log, reverse-log"),
        (["learning_rate=1e-5"], [], [], "learning_rate=: must be a number"),
        (["learning_rate"], [], [], "--range learning_rate: should look like --range learning_rate=1e-5:1e-1:log"),
        ([], ["batch_size="], [], "--choice batch_size=: should look like --choice batch_size=32,64,128"),
        ([], [], ["epochs"], "--static epochs: should look like --static epochs=4"),
        (["lr=0.1:1", "learning_rate=0.1:1"], [], [], "learning_rate: has two ranges; give it one"),
        (["epochs=1:5"], ["epochs=1,5"], [], "epochs: has two ranges; give it one"),
        (["lr=0.1:1"], [], ["learning_rate=1"], "learning_rate: given as a range and as a fixed value; give one"),
        (["lr=0.1:0.01"], [], [], "learning_rate: the smallest value 0.1 is above the largest, 0.01"),
        (["dropout=0:0.5:log"], [], [], "dropout: a logarithmic range begins above 0, not at 0.0"),
        (["epochs=1:9:reverse-log"], [], [], "epochs: ReverseLogarithmic is for continuous ranges"),
        ([], ["batch_size=32,32"], [], "batch_size: names a value twice"),
        ([], ["batch_size=" + ",".join(map(str, range(1, 32)))], [], "batch_size: has 31 values; 1 to 30 are allowed"),
        ([], [], ["lr=0.1", "learning_rate=0.2"], "learning_rate: is fixed twice, as 0.1 and as 0.2; give one"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_what_would(ranges, choices, static, complaint):
    with pytest.raises(SearchError) as caught:
        make_plan(None, ranges, choices, static)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("static", "complaint"),
    [("epochs=0", "epochs=0: must be a whole number from 1 to 1000"), ("dropuot=0.5", "dropuot=0.5: there is no such")],
)
def test_a_fixed_value_is_checked_as_any_hyperparameter(static, complaint):
    with pytest.raises(HyperparameterError, match=complaint):
        make_plan(None, static=[static])


def test_fixed_values_that_contradict_each_other_are_refused_wherever_they_come_from():
    with pytest.raises(SearchError, match=r"the fixed values: .*\n.*learns nothing"):
        make_plan(Plan(declared_ranges(), {"weights": "none"}), static=["unfreeze=head"])


def test_a_space_in_which_all_is_fixed_is_refused():
    fixed = [f"{name}={DECLARATIONS[name].default}" for name in declared_ranges()]
    with pytest.raises(SearchError, match="nothing is left to search"):
        make_plan(None, static=fixed)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"strategy": "guess"}, "there is no strategy 'guess'; it is one of bayesian, random, hyperband, grid"),
        ({"objective": "f1"}, "'f1' cannot be the objective, which is one of valid_loss"),
        ({"jobs": 0}, "jobs is 0; it should be 1 or more"),
        ({"parallel": 0}, "parallel is 0; it should be 1 or more"),
        ({"patience": 2}, "patience is 2; it should be 3 or more"),
        ({"warm_start": tuple("abcdef")}, "6 searches to start from; 5 are the most"),
        ({"strategy": "hyperband", "objective": "test_accuracy"}, "test_accuracy is printed once a job, too late to"),
        ({"early_stopping": True, "objective": "test_loss"}, "test_loss is printed once a job, too late to stop it"),
    ],
)
def test_a_setting_that_no_search_can_have_is_refused(settings, complaint):
    with pytest.raises(SearchError) as caught:
        make_plan(None, **settings)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("strategy", ["bayesian", "random", "hyperband", "grid", "Grid"])
def test_a_strategy_may_be_written_small(strategy):
    assert make_plan(None, strategy=strategy).strategy == strategy.capitalize()


# What goes before what


BASE = Plan(
    ranges={"learning_rate": Range(1e-5, 1e-3), "batch_size": Range(choices=("32", "64"))},
    static={"epochs": "4", "backbone": "resnet18"},
    jobs=12,
    early_stopping=True,
    seed=5,
)


def test_options_go_before_the_base_and_the_rest_of_it_stays():
    plan = make_plan(BASE, ["lr=0.1:1"], [], ["epochs=9"], jobs=3, seed=0, early_stopping=False, strategy=None)
    assert plan.ranges == {"learning_rate": Range(0.1, 1.0), "batch_size": Range(choices=("32", "64"))}
    assert plan.static == {"epochs": "9", "backbone": "resnet18"}
    assert (plan.jobs, plan.seed, plan.early_stopping, plan.strategy) == (3, 0, False, "Bayesian")


def test_settings_that_are_not_given_leave_the_base_as_it_is():
    assert make_plan(BASE, jobs=None, seed=None, early_stopping=None, warm_start=()) == BASE


def test_a_range_frees_what_the_base_fixes_and_a_fixed_value_takes_away_its_range():
    plan = make_plan(BASE, ["epochs=5:20"], [], ["batch_size=16"])
    assert plan.ranges == {"learning_rate": Range(1e-5, 1e-3), "epochs": Range(5, 20)}
    assert plan.static == {"backbone": "resnet18", "batch_size": "16"}


# Files

YAML = """
preset: adamw
ranges:
  lr: {low: 1e-4, high: 1e-2, scale: log}
  dropout: {low: 0.1, high: 0.5}
  batch-size: [64, 128]
static:
  epochs: 6
  fc_units: 256
strategy: random
jobs: 20
parallel: 4
objective: valid_loss
early_stopping: true
seed: 0
target: 0.1
patience: 5
warm_start: [dogs-1, dogs-2]
"""


def write(folder, content, name="plan.yaml"):
    file = folder / name
    file.write_text(content)
    return file


def test_a_file_goes_before_its_preset(tmp_path):
    plan = read_plan(write(tmp_path, YAML), PRESETS)
    assert plan == Plan(
        ranges={
            "learning_rate": Range(1e-4, 1e-2, "Logarithmic"),
            "weight_decay": PRESETS["adamw"].ranges["weight_decay"],
            "batch_size": Range(choices=("64", "128")),
            "dropout": Range(0.1, 0.5),
        },
        static={"optimizer": "adamw", "epochs": "6", "fc_units": "256"},
        strategy="Random",
        jobs=20,
        parallel=4,
        objective="valid_loss",
        early_stopping=True,
        seed=0,
        target=0.1,
        patience=5,
        warm_start=("dogs-1", "dogs-2"),
    )
    validate(plan)


def test_a_plan_may_be_json(tmp_path):
    content = {"ranges": {"learning_rate": {"low": 1e-05, "high": 0.1, "scale": "log"}, "batch_size": [32, 64]}}
    plan = read_plan(write(tmp_path, json.dumps(content), "plan.json"), PRESETS)
    assert plan.ranges == {
        "learning_rate": Range(1e-5, 0.1, "Logarithmic"),
        "batch_size": Range(choices=("32", "64")),
    }


def test_words_that_yaml_takes_for_truth_are_words(tmp_path):
    plan = read_plan(write(tmp_path, "static: {debugger: off, profiler: on}\nearly_stopping: true"), PRESETS)
    assert plan.static == {"debugger": "off", "profiler": "on"}
    assert plan.early_stopping is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("static: {weights: }", "static has no value for weights"),
        ("ranges: {batch_size: [32, null]}", "batch_size: has an empty value"),
    ],
)
def test_an_empty_value_is_refused(tmp_path, text, words):
    with pytest.raises(SearchError, match=words):
        read_plan(write(tmp_path, text), PRESETS)


def test_a_file_without_ranges_searches_the_declared_ones(tmp_path):
    plan = read_plan(write(tmp_path, "static: {epochs: 4}\njobs: 3"), PRESETS)
    assert set(plan.ranges) == set(declared_ranges()) - {"epochs"}
    assert plan.jobs == 3


def test_a_files_range_frees_what_its_preset_fixes(tmp_path):
    plan = read_plan(write(tmp_path, "preset: resnet50-head\nranges: {epochs: {low: 2, high: 8}}"), PRESETS)
    assert plan.ranges["epochs"] == Range(2, 8)
    assert plan.static == {"backbone": "resnet50"}


def test_options_go_before_the_file(tmp_path):
    base = read_plan(write(tmp_path, YAML), PRESETS)
    plan = make_plan(base, ["epochs=5:9"], [], ["lr=0.001"], jobs=2)
    assert plan.ranges["epochs"] == Range(5, 9)
    assert "learning_rate" not in plan.ranges
    assert plan.static == {"optimizer": "adamw", "fc_units": "256", "learning_rate": "0.001"}
    assert (plan.jobs, plan.parallel) == (2, 4)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("range: {}\nseeds: 1", "plan.yaml: range, seeds is not known; known are early_stopping, jobs, objective"),
        ("- a\n- b", "plan.yaml holds list; it should hold keys such as ranges, static, jobs"),
        ("", "plan.yaml holds NoneType; it should hold keys"),
        ("a: b: c", "plan.yaml cannot be read"),
        ("preset: resnet", "there is no preset 'resnet'; there are resnet50-head, resnet18-simple"),
        ("preset: [adamw]", "there is no preset ['adamw']"),
        ("ranges: [lr]", "ranges holds list; it should hold names and values"),
        ("static: 4", "static holds int; it should hold names and values"),
        ("ranges: {dropuot: [1]}", "dropuot: there is no such hyperparameter"),
        ("ranges: {dropout: 0.5}", "dropout=0.5: should be a list of values, or have low, high and perhaps scale"),
        ("ranges: {dropout: {low: 0.1}}", "should be a list of values, or have low, high and perhaps scale"),
        ("ranges: {dropout: {low: 0.1, high: 0.2, step: 1}}", "should be a list of values, or have low, high"),
        ("ranges: {dropout: {low: 0.1, high: 2}}", "dropout=2: must be a number from 0 to 0.95"),
        ("ranges: {optimizer: []}", "optimizer: is an empty list; give it the values to try"),
        ("ranges: {lr: [1], learning_rate: [1]}", "learning_rate: has two ranges; give it one"),
        ("ranges: {epochs: [1, 2]}\nstatic: {epochs: 4}", "epochs: given as a range and as a fixed value; give one"),
        ("static: {lr: 0.1, learning_rate: 0.2}", "learning_rate: is fixed twice, as 0.1 and as 0.2; give one"),
        ("jobs: many", "jobs is 'many'; it should be a whole number"),
        ("jobs: true", "jobs is True; it should be a whole number"),
        ("jobs: 1.5", "jobs is 1.5; it should be a whole number"),
        ("early_stopping: 1", "early_stopping is 1; it should be true or false"),
        ("target: high", "target is 'high'; it should be a number"),
        ("strategy: 1", "strategy is 1; it should be one of bayesian, random, hyperband, grid"),
        ("strategy: guess", "there is no strategy 'guess'"),
        ("warm_start: dogs", "warm_start is 'dogs'; it should be a list of finished searches"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_what_would(tmp_path, content, complaint):
    with pytest.raises(SearchError) as caught:
        read_plan(write(tmp_path, content), PRESETS)
    assert complaint in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused_with_its_name(tmp_path):
    with pytest.raises(SearchError, match=r"missing\.yaml cannot be read"):
        read_plan(tmp_path / "missing.yaml", PRESETS)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SearchError, match=r"binary\.yaml cannot be read"):
        read_plan(tmp_path / "binary.yaml", PRESETS)


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_request_that_the_service_takes(name):
    plan = make_plan(PRESETS[name])
    assert plan == PRESETS[name]
    validate(plan)
    for parameter in parse_request_ranges(tuning_config(plan)["ParameterRanges"]):
        for value in parameter.values or (parameter.text(parameter.low), parameter.text(parameter.high)):
            parse_hyperparameters({**plan.static, parameter.name: value})


def test_the_presets_are_what_people_did_by_hand():
    head = PRESETS["resnet50-head"]
    assert head.ranges == {
        "learning_rate": Range(1e-5, 1e-3, "Logarithmic"),
        "batch_size": Range(choices=("64", "128")),
        "dropout": Range(0.2, 0.5),
        "optimizer": Range(choices=("adam", "rmsprop")),
        "fc_units": Range(choices=("256", "512")),
    }
    assert (head.jobs, head.static) == (8, {"backbone": "resnet50", "epochs": "4"})
    simple = PRESETS["resnet18-simple"].ranges
    assert (simple["batch_size"].choices[0], simple["batch_size"].choices[-1]) == ("32", "256")
    assert (simple["learning_rate"].low, simple["learning_rate"].high) == (1e-3, 1e-1)
    assert PRESETS["densenet161"].ranges["epochs"] == Range(5, 20)
    assert set(PRESETS["densenet161"].ranges) == {"learning_rate", "batch_size", "epochs"}
    assert set(PRESETS["adamw"].ranges) == {"learning_rate", "weight_decay", "epochs", "batch_size"}
    assert PRESETS["adamw"].static == {"optimizer": "adamw"}


# The request


def test_a_plan_becomes_a_request_and_its_ranges_come_back():
    plan = make_plan(
        None, ["lr=1e-5:0.1:log", "epochs=5:20", "momentum=0.5:0.99:reverse-log"], ["optimizer=adam,sgd"], seed=3
    )
    config = tuning_config(plan)
    found = {parameter.name: parameter for parameter in parse_request_ranges(config["ParameterRanges"])}
    assert {name: Range(p.low, p.high, p.scaling, p.values) for name, p in found.items()} == plan.ranges
    assert {name: p.kind for name, p in found.items()} == {
        "epochs": "Integer",
        "learning_rate": "Continuous",
        "momentum": "Continuous",
        "optimizer": "Categorical",
    }
    assert config["ParameterRanges"]["IntegerParameterRanges"][0]["MinValue"] == "5"
    assert config["RandomSeed"] == 3


def test_the_request_has_every_setting_b9_b11():
    settings = {"jobs": 30, "parallel": 3, "early_stopping": True, "seed": 0, "target": 0.0, "patience": 3}
    config = tuning_config(make_plan(None, objective="valid_loss", strategy="random", **settings))
    assert config["Strategy"] == "Random"
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "valid_loss"}
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 30, "MaxParallelTrainingJobs": 3}
    assert config["TrainingJobEarlyStoppingType"] == "Auto"
    assert config["RandomSeed"] == 0
    assert config["TuningJobCompletionCriteria"] == {
        "TargetObjectiveMetricValue": 0.0,
        "BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3},
    }


def test_what_is_not_asked_for_is_not_in_the_request():
    config = tuning_config(make_plan(None))
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "valid_loss"}
    assert config["TrainingJobEarlyStoppingType"] == "Off"
    assert "RandomSeed" not in config
    assert "TuningJobCompletionCriteria" not in config


def test_the_service_counts_a_grid_itself_b1():
    plan = make_plan(None, [], ["optimizer=adam,sgd", "batch_size=32,64"], strategy="grid")
    assert tuning_config(plan)["ResourceLimits"] == {"MaxParallelTrainingJobs": 2}
    validate(plan)


@pytest.mark.parametrize("strategy", ["bayesian", "random", "hyperband"])
def test_every_strategy_makes_a_request_that_the_service_takes_b1(strategy):
    validate(make_plan(None, static=["epochs=9"], strategy=strategy))
