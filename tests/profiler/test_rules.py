"""Every rule of the profiler fires on a profile that is wrong, and is silent on one that is not (contract D4)."""

import dataclasses
import json

import pytest

from kennel.debugger.choice import choose_rules as choose_debugger_rules
from kennel.errors import HyperparameterError, NothingToJudge
from kennel.hyperparameters import default_values, parse_hyperparameters
from kennel.judging.judge import judge
from kennel.judging.rule import declarations
from kennel.profiler.rules import DOCUMENTED, RULES, choose_rules, markdown_table
from tests.profiler.recorded import profile, samples

PRESETS = ("sdk", "documented")
IDLE = samples(busy=(20.0,), memory=(20.0,))
SLEEPY = {"data": 0.156}  # 61 % of a step
WRONG = [  # rule, a profile made wrong, what the rule says of it, what it says to try
    ("LowGPUUtilization", profile(IDLE), "is under-used: 95 of 100 samples are at most 20 %", "batch_size 64 → 256"),
    (
        "LowGPUUtilization",
        profile(samples(busy=(lambda n: 99.0 * (n % 4 > 0),))),
        "is busy and idle by turns",
        "a batch_size above 64 does not fit",
    ),
    (
        "LowGPUUtilization",
        profile(IDLE, **SLEEPY),
        "is under-used",
        "without the wait a step would be at best 2.6 × shorter",
    ),
    ("BatchSize", profile(IDLE), "its memory 20 % full", "at best 5.0 × shorter"),
    (
        "CPUBottleneck",
        profile(samples(cpu=98.0, busy=(2.0,)), decoding=900.0, hyperparameters={"num_workers": "2"}),
        "in 100 % of the samples the 4 cores are above 90 %",
        "num_workers 2 → 0, which is one thread a core, 4 here: decoding took 900 s",
    ),
    ("CPUBottleneck", profile(samples(cpu=98.0, busy=(2.0,))), "the GPUs below 10 %", "an instance with more cores"),
    ("IOBottleneck", profile(samples(io_wait=80.0, busy=(2.0,))), "5 MB a second are read", "a quicker disk"),
    (
        "IOBottleneck",
        profile(samples(io_wait=80.0, busy=(2.0,)), **SLEEPY),
        "wait for a disk over 50 % of the time",
        "a machine with more memory would help too",
    ),
    (
        "GPUMemoryIncrease",
        profile(samples(memory=(lambda n: 30.0 + n / 10,))),
        "rose by",
        "At this rate the memory is full in",
    ),
    (
        "LoadBalancing",
        profile(samples(busy=(95.0, 35.0), memory=(75.0, 75.0)), hyperparameters={"batch_size": "65"}),
        "GPU 0 is 95 % busy on average, GPU 1 35 %",
        "batch_size 65 → 66",
    ),
    ("MaxInitializationTime", profile(decoding=1500.0), "25.0 minutes, of which decoding took 25.0", "KENNEL_CACHE"),
    (
        "StepOutlier",
        profile(slow={number: {"data": 4.0} for number in range(500, 520)}),
        "20 of 1997 steps of the network took longer than",
        "waiting for data, which made 20 of 20 of them long",
    ),
    ("StepOutlier", profile(count=50, slow={30: {"forward": 3.0}}), "step 30, took 3.07 s", "look at the forward"),
    (
        "Dataloader",
        profile(**SLEEPY),
        "waiting for data 61 % of a step",
        "image_size 224 → 160, which halves what is read",
    ),
    (
        "Dataloader",
        profile(**SLEEPY, hyperparameters={"backbone": "maxvit_t"}),
        "waiting for data 61 % of a step",
        "another backbone, for maxvit_t sees no images that are half as large as 224 pixels",
    ),
    (
        "Dataloader",
        profile(**SLEEPY, hyperparameters={"image_size": "32"}),
        "waiting for data 61 % of a step",
        "another backbone, for ",
    ),
    (
        "Dataloader",
        profile(decoding=100.0, hyperparameters={"num_workers": "1"}),
        "by 1 threads on 4 cores: 25 %, below 70",
        "decoding took 100 s, 33 % of the job, and would at best be 4.0 × shorter",
    ),
    (
        "Dataloader",
        profile(decoding=9.0, hyperparameters={"num_workers": "9"}),
        "225 %, above 200",
        "num_workers 9 → 0",
    ),
]
SILENT = {"OverallSystemUsage", "OverallFrameworkMetrics"}  # AWS's own find nothing either
HEALTHY = profile(samples(busy=(92.0, 90.0), memory=(75.0, 75.0)), decoding=20.0)


def of_preset(name, rule):
    return next(each for each in choose_rules(name) if each.name == rule)


@pytest.mark.parametrize("defaults", PRESETS)
@pytest.mark.parametrize(("rule", "wrong", "says", "advice"), WRONG)
def test_a_rule_fires_on_a_profile_made_wrong_and_is_silent_on_a_healthy_one_d4(defaults, rule, wrong, says, advice):
    found = list(of_preset(defaults, rule).check(wrong))
    assert found, f"{rule} said nothing"
    assert says in found[0].message
    assert advice in found[0].advice
    assert json.dumps([dict(finding.evidence) for finding in found])
    assert not list(of_preset(defaults, rule).check(HEALTHY))


def test_every_rule_of_aws_is_there_and_proved_d4():
    assert {rule for rule, *_ in WRONG} | SILENT == set(RULES)


@pytest.mark.parametrize("defaults", PRESETS)
def test_no_rule_finds_anything_in_a_healthy_job(defaults):
    judgement = judge(choose_rules(defaults), HEALTHY, ended=True, asked_for=False)
    assert {result.status for result in judgement.results} == {"NoIssuesFound"}
    assert judgement.left_out == {}
    assert len(judgement.results) == len(RULES)


def test_the_presets_differ_where_awss_documentation_and_sdk_do_d4():
    sdk, documented = ({rule.name: dataclasses.asdict(rule) for rule in choose_rules(name)} for name in PRESETS)
    assert sdk == {name: dataclasses.asdict(rule()) for name, rule in RULES.items()}
    for name, values in documented.items():
        assert values == sdk[name] | DOCUMENTED.get(name, {})
        assert {key for key in values if values[key] != sdk[name][key]} == set(DOCUMENTED.get(name, {}))
    assert default_values()["profiler_preset"] == "sdk"


def test_a_job_sets_parameters_of_single_rules_over_the_preset_d4():
    hp = parse_hyperparameters({"rule_StepOutlier_n_outliers": "2", "rule-IOBottleneck-gpu_threshold": "30"})
    assert choose_debugger_rules(hp.rules, hp.rule_parameters) == choose_debugger_rules("default", "")
    rules = {rule.name: rule for rule in choose_rules("documented", hp.rule_parameters)}
    assert (rules["StepOutlier"].stddev, rules["StepOutlier"].n_outliers) == (5.0, 2)
    assert rules["IOBottleneck"].gpu_threshold == 30.0
    for wrong, says in (
        ("StepOutliers_stddev=1", "rule_StepOutliers_stddev=1: should be rule_NAME_PARAMETER=VALUE"),
        ("StepOutlier_sigma=1", "StepOutlier has no parameter sigma; it has: stddev, mode, n_outliers"),
        ("Dataloader_min_threshold=many", "Dataloader: min_threshold=many: must be a number"),
    ):
        with pytest.raises(HyperparameterError) as refused:
            choose_rules("sdk", wrong)
        assert says in str(refused.value)


def test_what_lies_between_the_presets_fires_with_one_of_them_only_d4():
    rising = profile(samples(memory=(lambda n: 70.0 + 7.0 * (n > 300),)))
    waiting = profile(samples(io_wait=80.0, busy=(40.0,)))
    for rule, measured, by in (("GPUMemoryIncrease", rising, "sdk"), ("IOBottleneck", waiting, "documented")):
        assert [name for name in PRESETS if list(of_preset(name, rule).check(measured))] == [by]


@pytest.mark.parametrize(
    "rule", ["LowGPUUtilization", "BatchSize", "CPUBottleneck", "IOBottleneck", "GPUMemoryIncrease"]
)
def test_without_a_gpu_the_rules_for_it_are_left_out_and_say_so(rule):
    with pytest.raises(NothingToJudge, match="there is no GPU"):
        list(RULES[rule]().check(profile(samples(busy=(), memory=()))))


def test_too_little_to_judge_is_said_with_how_much_there_was():
    short = profile(samples(15, busy=(1.0, 1.0), memory=(1.0, 1.0)), count=10)
    judgement = judge(choose_rules("sdk"), short, ended=True, asked_for=False)
    assert judgement.left_out["LowGPUUtilization"] == ("15 samples in 8 seconds are too few: 20 and more can be judged")
    assert judgement.left_out["StepOutlier"] == "7 steps are too few: 20 and more of a stage can be judged"
    assert judgement.left_out["Dataloader"] == "decoding took 0.0 s, and there were fewer than 20 steps"
    lost = samples(400)[:30] + samples(400, busy=(), memory=())[30:]
    (reason,) = judge([RULES["BatchSize"]()], profile(lost, gpus=1), ended=True, asked_for=False).left_out.values()
    assert reason == "the GPUs were sampled 0 times only, then their driver failed"
    nothing = dataclasses.replace(short, samples=(), stages=(), first_step=None)
    assert len(judge(choose_rules("sdk"), nothing, ended=True, asked_for=False).left_out) == len(RULES)


def test_patience_is_capped_at_a_tenth_so_that_short_jobs_are_judged():
    idle_at_first = samples(50, busy=(lambda n: 100.0 * (n >= 5),))
    assert not list(RULES["CPUBottleneck"]().check(profile(idle_at_first)))
    assert not list(RULES["LowGPUUtilization"]().check(profile(idle_at_first)))
    assert list(RULES["LowGPUUtilization"](patience=0).check(profile(idle_at_first)))


def test_memory_that_rose_and_fell_is_never_full():
    hill = profile(samples(memory=(lambda n: 40.0 + 20.0 * (100 < n < 200),)))
    [finding] = RULES["GPUMemoryIncrease"]().check(hill)
    assert finding.advice.endswith("as much as the one before")


def test_memory_that_rises_between_two_stages_is_no_leak():
    grown = profile(samples(memory=(lambda n: 10.0 if n < 60 else 80.0,)), decoding=30.0)
    assert not list(RULES["GPUMemoryIncrease"]().check(grown))


def test_one_slow_step_of_many_is_passed_over_as_aws_does_and_so_is_one_that_costs_little():
    assert not list(RULES["StepOutlier"]().check(profile(slow={700: {"forward": 3.0}})))
    assert not list(RULES["StepOutlier"]().check(profile(count=50, slow={30: {"forward": 0.9}})))
    assert list(RULES["StepOutlier"](n_outliers=0).check(profile(slow={700: {"forward": 30.0}})))
    many = profile(count=4000, slow={number: {"data": 0.9} for number in range(100, 4000, 40)})
    (found,) = RULES["StepOutlier"]().check(many)
    assert found.evidence["seconds"] == pytest.approx(98 * 0.9, rel=0.05)  # of all, not of the slowest alone
    with pytest.raises(NothingToJudge, match="not one by one"):
        list(RULES["StepOutlier"](mode="EVAL").check(profile()))


def test_a_head_that_waits_is_told_of_larger_batches():
    waiting = profile(**SLEEPY)
    head = dataclasses.replace(waiting, stages=tuple(dataclasses.replace(s, name="head") for s in waiting.stages))
    (found,) = RULES["Dataloader"]().check(head)
    assert found.advice.startswith("batch_size 64 → 256")


def test_parameters_are_awss_and_given_as_text_d4():
    rule = RULES.parse("StepOutlier:stddev=2.5,n_outliers=0,mode=TRAIN")
    assert (rule.stddev, rule.n_outliers, rule.mode) == (2.5, 0, "TRAIN")
    assert list(declarations(RULES["LowGPUUtilization"])) == ["threshold_p95", "threshold_p5", "window", "patience"]


def test_the_readme_holds_the_table_made_from_the_rules(pytestconfig):
    assert markdown_table() in (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
