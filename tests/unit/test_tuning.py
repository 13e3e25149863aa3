"""The search itself: the space, the strategies, the median rule, the summary and the importance."""

import csv
import json
import math
import random
import subprocess
import sys
from collections import Counter

import optuna
import pytest

from kennel.errors import SearchError
from kennel.metrics import metric_curve, metric_definitions, metric_line
from kennel.tuning.importance import MIN_TRIALS, importances
from kennel.tuning.median import is_hopeless
from kennel.tuning.search import Prior, Search
from kennel.tuning.space import Parameter, describe_ranges, parse_ranges, resources
from kennel.tuning.summary import Summary, Trial, markdown, ranked, read_best, read_summary, write_summary

DEFAULTS = {"epochs": "15", "learning_rate": "0.0005", "optimizer": "adamw", "batch_size": "64", "momentum": "0.9"}


def integer(name="epochs", low="5", high="20", **more):
    return {"IntegerParameterRanges": [{"Name": name, "MinValue": low, "MaxValue": high, **more}]}


def continuous(name="learning_rate", low="1e-05", high="0.1", **more):
    return {"ContinuousParameterRanges": [{"Name": name, "MinValue": low, "MaxValue": high, **more}]}


def categorical(**values):
    return {"CategoricalParameterRanges": [{"Name": name, "Values": given} for name, given in values.items()]}


MIXED = {
    **integer(),
    **continuous(ScalingType="Logarithmic"),
    **categorical(optimizer=["adam", "adamw"], batch_size=["32", "64"]),
}
GRID = categorical(optimizer=["adam", "sgd", "adamw"], batch_size=["32", "64"])


def config(strategy="Bayesian", ranges=MIXED, goal="Maximize", jobs=20, **more):
    limits = {"MaxParallelTrainingJobs": 2, **({} if jobs is None else {"MaxNumberOfTrainingJobs": jobs})}
    objective = {"Type": goal, "MetricName": "valid_accuracy"}
    return {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": objective,
        "ResourceLimits": limits,
        "ParameterRanges": ranges,
        **more,
    }


def new_search(strategy="Bayesian", static=None, defaults=DEFAULTS, priors=(), file=None, **more):
    return Search(config(strategy, **more), static or {}, defaults, priors, file)


def draw(search, count):
    """Propose, and finish every proposal with the same objective."""
    found = []
    for _ in range(count):
        proposal = search.propose()
        search.finish(proposal.number, 0.5)
        found.append(proposal)
    return found


# The space


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        (integer(low="9", high="5"), "epochs: the smallest value 9 is above the largest, 5"),
        (integer(low="1.5"), "epochs: MinValue is 1.5; an integer range has whole numbers"),
        (integer(high="many"), "epochs: MaxValue is 'many'; it should be a number"),
        (continuous(high="inf"), "learning_rate: MaxValue is inf; it should be finite"),
        (continuous(low="nan"), "learning_rate: MinValue is nan; it should be finite"),
        (continuous(low="0", ScalingType="Logarithmic"), "learning_rate: a logarithmic range begins above 0, not at 0"),
        (integer(low="0", ScalingType="Logarithmic"), "epochs: a logarithmic range begins above 0, not at 0"),
        (integer(ScalingType="ReverseLogarithmic"), "epochs: ReverseLogarithmic is for continuous ranges"),
        (continuous(high="1", ScalingType="ReverseLogarithmic"), "lies within 0 ≤ x < 1, not 1e-05 to 1"),
        (continuous(low="-0.1", ScalingType="ReverseLogarithmic"), "lies within 0 ≤ x < 1, not -0.1 to 0.1"),
        (categorical(optimizer=[]), "optimizer: has 0 values; 1 to 30 are allowed"),
        (categorical(optimizer=[str(n) for n in range(31)]), "optimizer: has 31 values; 1 to 30 are allowed"),
        (categorical(optimizer=["adam", "sgd", "adam"]), "optimizer: names a value twice"),
        ({**integer("x"), **categorical(x=["1"])}, "x: has 2 ranges; give it one"),
        (categorical(**{f"p{n}": ["1"] for n in range(31)}), "31 hyperparameters are tuned; 30 are the most"),
    ],
)
def test_a_range_that_the_service_refuses_is_refused_with_its_name_b2(ranges, complaint):
    with pytest.raises(SearchError) as caught:
        parse_ranges(ranges)
    assert complaint in str(caught.value)


def test_one_message_lists_all_bad_ranges():
    with pytest.raises(SearchError) as caught:
        parse_ranges({**integer(low="9", high="5"), **continuous(low="no"), **categorical(optimizer=["a", "a"])})
    assert str(caught.value).count("\n") == 3


def test_the_limits_themselves_are_allowed_b2():
    values = [str(n) for n in range(30)]
    assert len(parse_ranges(categorical(**{f"p{n}": values for n in range(30)}))) == 30


@pytest.mark.parametrize(
    ("low", "high", "scaling"),
    [("0.001", "0.1", "Logarithmic"), ("0.002", "0.1", "Linear"), ("0", "1000", "Linear"), ("-5", "5", "Linear")],
)
def test_auto_is_logarithmic_where_the_ends_are_far_apart_b2(low, high, scaling):
    for given in ({}, {"ScalingType": "Auto"}):
        assert parse_ranges(continuous(low=low, high=high, **given))[0].scaling == scaling


def test_ranges_are_described_in_short():
    assert describe_ranges(MIXED) == {
        "epochs": {"low": 5.0, "high": 20.0, "scaling": "Linear"},
        "learning_rate": {"low": 1e-5, "high": 0.1, "scaling": "Logarithmic"},
        "optimizer": {"choices": ["adam", "adamw"]},
        "batch_size": {"choices": ["32", "64"]},
    }


@pytest.mark.parametrize("text", ["0.0", "0.5", "0.9", "0.999", "0.99999876", "0.9999999"])
def test_a_reverse_logarithmic_value_comes_back_from_its_axis_b2(text):
    [momentum] = parse_ranges(continuous("momentum", "0", "0.9999999", ScalingType="ReverseLogarithmic"))
    assert momentum.at(momentum.coordinate(text)) == text
    assert momentum.coordinate(text) == pytest.approx(1 - float(text), rel=1e-5)


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (Parameter("epochs", "Integer", 1, 20), 7.0, "7"),
        (Parameter("lr", "Continuous", 1e-5, 0.1, "Logarithmic"), 1e-5, "1e-05"),
        (Parameter("lr", "Continuous", 1e-5, 0.1, "Logarithmic"), 0.012345678, "0.0123457"),
        (Parameter("lr", "Continuous", 0.12345632, 0.2), 0.12345632, "0.12345632"),  # six digits lie outside
    ],
)
def test_numbers_are_text_and_never_leave_their_range_b4(parameter, value, text):
    assert parameter.text(value) == text


@pytest.mark.parametrize(
    ("parameter", "given", "nearest"),
    [
        (Parameter("epochs", "Integer", 5, 20), "2", "5"),
        (Parameter("epochs", "Integer", 5, 20), "99", "20"),
        (Parameter("epochs", "Integer", 5, 20), "7.9", "8"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "0.3", "0.3"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "1", "0.5"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "auto", None),
        (Parameter("o", "Categorical", values=("a", "b")), "b", "b"),
        (Parameter("o", "Categorical", values=("a", "b")), "c", None),
    ],
)
def test_the_nearest_value_of_a_range_is_found(parameter, given, nearest):
    assert parameter.nearest(given) == nearest


@pytest.mark.parametrize("name", ["epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs"])
def test_hyperband_takes_the_static_number_of_epochs_b8(name):
    assert resources({}, {name: "27"}) == (1, 27)


def test_hyperband_takes_its_own_resources_first_b8():
    given = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 2, "MaxResource": 8}}}
    assert resources(given, {"epochs": "27"}) == (2, 8)


@pytest.mark.parametrize(
    ("least", "static", "complaint"),
    [(1, {}, "Hyperband needs MaxResource, or a static"), (9, {"epochs": "4"}, "MinResource 9 is above the 4 epochs")],
)
def test_hyperband_without_a_length_is_refused_b8(least, static, complaint):
    with pytest.raises(SearchError, match=complaint):
        resources({"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": least}}}, static)


# The strategies


@pytest.mark.parametrize("strategy", ["Bayesian", "Random", "Hyperband"])
def test_every_strategy_proposes_text_within_the_ranges_after_the_defaults_b1(strategy):
    ranges = {
        **MIXED,
        "ContinuousParameterRanges": [
            *MIXED["ContinuousParameterRanges"],
            *continuous("momentum", "0.5", "0.99", ScalingType="ReverseLogarithmic")["ContinuousParameterRanges"],
        ],
    }
    proposals = draw(new_search(strategy, {"epochs": "9"}, ranges=ranges, RandomSeed=1), 20)
    assert [proposal.number for proposal in proposals] == list(range(1, 21))
    assert proposals[0].values == {**DEFAULTS, "momentum": "0.9"}
    for values in (proposal.values for proposal in proposals):
        assert set(values) == {"epochs", "learning_rate", "momentum", "optimizer", "batch_size"}
        assert values["epochs"].isdecimal()
        assert 5 <= int(values["epochs"]) <= 20
        assert 1e-5 <= float(values["learning_rate"]) <= 0.1
        assert 0.5 <= float(values["momentum"]) <= 0.99
        assert values["optimizer"] in ("adam", "adamw")
        assert values["batch_size"] in ("32", "64")
    assert len({proposal.values["learning_rate"] for proposal in proposals}) == 20


def test_the_first_trial_has_the_defaults_as_far_as_the_space_holds_them():
    ranges = {**integer(low="20", high="30"), **categorical(optimizer=["sgd", "rmsprop"], batch_size=["32", "64"])}
    [first] = draw(new_search(ranges=ranges), 1)
    assert first.values["epochs"] == "20"
    assert first.values["batch_size"] == "64"
    assert first.values["optimizer"] in ("sgd", "rmsprop")


def test_a_logarithmic_range_is_drawn_evenly_over_its_powers_of_ten_b2():
    drawn = draw(new_search("Random", ranges=continuous(ScalingType="Logarithmic"), defaults={}, RandomSeed=5), 200)
    powers = Counter(math.floor(math.log10(float(proposal.values["learning_rate"]))) for proposal in drawn)
    assert all(powers[power] > 25 for power in (-5, -4, -3, -2))  # linear: about 180 would lie in the last


def test_a_reverse_logarithmic_range_is_drawn_evenly_towards_one_b2():
    ranges = continuous("momentum", "0", "0.999", ScalingType="ReverseLogarithmic")
    drawn = draw(new_search("Random", ranges=ranges, defaults={}, RandomSeed=5), 150)
    values = [float(proposal.values["momentum"]) for proposal in drawn]
    for low, high in ((0, 0.9), (0.9, 0.99), (0.99, 0.999)):
        assert sum(low <= value <= high for value in values) > 25


def test_a_grid_tries_every_combination_once_and_the_defaults_first_b1():
    search = new_search("Grid", ranges=GRID, jobs=None)
    found = [tuple(proposal.values.items()) for proposal in draw(search, 6)]
    assert dict(found[0]) == {"optimizer": "adamw", "batch_size": "64"}
    assert len(set(found)) == 6
    assert search.propose() is None


def test_a_grid_of_numbers_is_refused_b1():
    with pytest.raises(SearchError, match="Grid tries every combination of values; epochs, learning_rate has a range"):
        new_search("Grid")


def test_a_bayesian_search_learns_from_what_it_is_told_b1():
    search = new_search(ranges=continuous("x", "0", "1", ScalingType="Linear"), goal="Minimize", jobs=40, RandomSeed=3)
    found = []
    for _ in range(40):
        proposal = search.propose()
        found.append(abs(float(proposal.values["x"]) - 0.8))
        search.finish(proposal.number, found[-1])
    assert sum(distance < 0.1 for distance in found[20:]) >= 10  # at random it would be about 4 of 20


def test_a_search_without_a_limit_of_jobs_begins_all_the_same():
    assert len(draw(new_search("Bayesian", jobs=None), 12)) == 12


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_a_seed_makes_the_draws_the_same_again_and_another_seed_others_b11(strategy):
    def draws(seed):
        return [proposal.values for proposal in draw(new_search(strategy, RandomSeed=seed), 12)]

    assert draws(7) == draws(7)
    assert not any(values in draws(8) for values in draws(7)[1:])


def test_what_the_first_trial_draws_beside_its_defaults_is_not_drawn_again():
    numbers = continuous("x", "0", "1")["ContinuousParameterRanges"] + continuous()["ContinuousParameterRanges"]
    search = new_search("Random", ranges={"ContinuousParameterRanges": numbers}, RandomSeed=7)
    first, second = draw(search, 2)
    assert first.values["learning_rate"] == DEFAULTS["learning_rate"]
    assert first.values["x"] != second.values["x"]


def test_without_a_seed_the_draws_differ():
    one, other = (draw(new_search("Random"), 2)[1].values for _ in range(2))
    assert one != other


def test_the_largest_seed_of_a_request_is_taken():
    assert draw(new_search("Random", RandomSeed=2**31 - 1), 2)[1].number == 2


def test_running_trials_are_not_proposed_again():
    search = new_search(RandomSeed=1)
    rates = {search.propose().values["learning_rate"] for _ in range(15)}
    assert len(rates) == 15


def test_a_trial_without_an_objective_ends_too(tmp_path):
    search = new_search(file=tmp_path / "search.sqlite")
    search.finish(search.propose().number, None)
    assert search.unfinished() == []
    assert search.propose().number == 2


# The storage


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_an_interrupted_search_draws_what_it_would_have_drawn_b11(tmp_path, strategy):
    whole = [proposal.values for proposal in draw(new_search(strategy, RandomSeed=7), 6)]
    file = tmp_path / "search.sqlite"
    parts = [draw(new_search(strategy, file=file, RandomSeed=7), 2) for _ in range(3)]
    assert [proposal.values for part in parts for proposal in part] == whole
    assert [proposal.number for part in parts for proposal in part] == [1, 2, 3, 4, 5, 6]


def test_what_was_proposed_and_not_finished_is_told_to_the_next_process(tmp_path):
    file = tmp_path / "search.sqlite"
    first = new_search(file=file)
    proposals = [first.propose() for _ in range(3)]
    first.finish(2, 0.5)
    assert new_search(file=file).unfinished() == [proposals[0], proposals[2]]
    second = new_search(file=file)
    second.finish(1, 0.6)
    second.finish(3, None)
    assert new_search(file=file).unfinished() == []
    assert new_search(file=file).propose().number == 4


@pytest.mark.parametrize(("strategy", "ranges"), [("Grid", GRID), ("Bayesian", MIXED)])
def test_a_proposal_that_was_half_drawn_is_not_lost(tmp_path, strategy, ranges):
    file = tmp_path / "search.sqlite"
    new_search(strategy, ranges=ranges, file=file)
    study = optuna.load_study(study_name="tuning", storage=f"sqlite:///{file}")
    study.enqueue_trial({"optimizer": "adamw", "batch_size": "64"})
    study.ask()  # and here the process dies: the trial has begun and has none of its values yet
    again = new_search(strategy, ranges=ranges, file=file)
    [half] = again.unfinished()
    assert half.number == 1
    assert set(half.values) == {given["Name"] for kind in ranges.values() for given in kind}
    assert (half.values["optimizer"], half.values["batch_size"]) == ("adamw", "64")
    assert again.unfinished() == [half]
    assert again.propose().number == 2


# Runs a search over a grid of six in children of its own, which it kills. Each child writes down what it was given to
# try and what it had finished. Arguments: the folder, and either commit=N or seconds=S: when the first child is killed.
KILLED = """
import json, os, pathlib, signal, sys, time
from sqlalchemy import event
from sqlalchemy.engine import Engine
from kennel.tuning.search import Prior, Search

folder, config, defaults = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
priors = [Prior({"optimizer": "sgd", "batch_size": size}, 0.5) for size in ("32", "64", "128", "32")]

def search(file, ledger):
    with ledger.open("a", buffering=1) as written:
        search = Search(config, {}, defaults, priors, file)
        waiting = search.unfinished()
        while proposal := (waiting.pop(0) if waiting else search.propose()):
            print(json.dumps(["try", proposal.number, proposal.values]), file=written)
            search.finish(proposal.number, proposal.number / 10)
            print(json.dumps(["done", proposal.number, proposal.values]), file=written)

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def kill_at_commit(count):
    left = [count]
    def on_commit(connection):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "commit", on_commit)

def hurry(connection, record):
    connection.execute("PRAGMA synchronous=OFF")  # what it gives up is safety from a power cut, not from a kill

event.listen(Engine, "connect", hurry)
Search(config, {}, defaults, (), folder / "first.sqlite")  # what it imports, the children need not

for plan in sys.argv[4:]:
    kind, _, value = plan.partition("=")
    file, ledger = folder / f"{plan}.sqlite", folder / f"{plan}.ledger"
    if kind == "commit":
        pid = child(lambda: (kill_at_commit(int(value)), search(file, ledger)))
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert killed in (0, -signal.SIGKILL), killed
    else:
        for delay in map(float, value.split(",")):
            pid = child(lambda: search(file, ledger))
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child(lambda: search(file, ledger)), 0)[1])
    assert ended == 0, (plan, ended)
    print(plan, "killed" if kind == "seconds" or killed else "ended")
"""


def run_killed(folder, *plans):
    """Run the grid search with these ends; return what was written, for each, and which children were killed."""
    given = config("Grid", ranges=GRID, jobs=None)
    command = [sys.executable, "-c", KILLED, str(folder), json.dumps(given), json.dumps(DEFAULTS), *plans]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = {plan: (folder / f"{plan}.ledger").read_text().splitlines() for plan in plans}
    return {plan: [json.loads(line) for line in found] for plan, found in lines.items()}, ran.stdout


def check_ledger(ledger):
    """Every combination once, under one number, and none again after its end."""
    tried = {}
    done = []
    for what, number, values in ledger:
        assert number not in done
        assert tried.setdefault(number, values) == values
        if what == "done":
            done.append(number)
    assert sorted(tried) == [1, 2, 3, 4, 5, 6]
    assert len({tuple(values.items()) for values in tried.values()}) == 6


def test_a_search_killed_at_any_write_goes_on_and_loses_nothing(tmp_path):
    plans = [f"commit={number}" for number in range(1, 47)]  # there are 12 before the first proposal, and 12 a trial
    ledgers, printed = run_killed(tmp_path, *plans)
    for ledger in ledgers.values():
        check_ledger(ledger)
    assert all(f"{plan} killed" in printed for plan in plans)


def test_a_search_killed_again_and_again_at_random_moments_goes_on(tmp_path):
    moments = random.Random(3)
    plans = ["seconds=" + ",".join(f"{moments.uniform(0.0, 0.3):.3f}" for _ in range(4)) for _ in range(4)]
    ledgers, _ = run_killed(tmp_path, *plans)
    for ledger in ledgers.values():
        check_ledger(ledger)


# Earlier searches


def test_earlier_results_count_and_are_not_numbered_b10(tmp_path):
    priors = [Prior({"x": f"{n / 40}"}, -abs(n / 40 - 0.8)) for n in range(40)]
    file = tmp_path / "search.sqlite"
    ranges = continuous("x", "0", "1", ScalingType="Linear")
    search = new_search(ranges=ranges, defaults={"x": "0.1"}, priors=priors, file=file, RandomSeed=1)
    proposals = [search.propose() for _ in range(5)]
    assert [proposal.number for proposal in proposals] == [1, 2, 3, 4, 5]
    assert all(float(proposal.values["x"]) > 0.6 for proposal in proposals)
    search.finish(2, 0.5)
    again = new_search(ranges=ranges, defaults={"x": "0.1"}, priors=priors, file=file, RandomSeed=1)
    assert [proposal.number for proposal in again.unfinished()] == [1, 3, 4, 5]
    assert again.propose().number == 6


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "4", "optimizer": "adam"},
        {"epochs": "7", "optimizer": "sgd"},
        {"epochs": "7"},
        {"epochs": "seven", "optimizer": "adam"},
        {"epochs": "7.5", "optimizer": "adam"},
    ],
)
def test_earlier_results_outside_the_space_are_passed_over_b10(values):
    ranges = {**integer(), **categorical(optimizer=["adam", "adamw"])}
    [first] = draw(new_search(ranges=ranges, priors=[Prior(values, 0.9)]), 1)
    assert first.values == {"epochs": "15", "optimizer": "adamw"}


def test_earlier_results_take_the_place_of_the_defaults_b10():
    [first] = draw(new_search(priors=[Prior({**DEFAULTS, "epochs": "7"}, 0.9)], RandomSeed=1), 1)
    assert first.values["learning_rate"] != DEFAULTS["learning_rate"]


def test_a_grid_has_its_combinations_beside_earlier_results():
    search = new_search("Grid", ranges=GRID, jobs=None, priors=[Prior({"optimizer": "adam", "batch_size": "32"}, 0.9)])
    assert [proposal.number for proposal in draw(search, 6)] == [1, 2, 3, 4, 5, 6]
    assert search.propose() is None


# Hyperband


def run_hyperband(goal, levels, epochs=9):
    """Train pretended trials, one after the other; return how many epochs each had."""
    search = new_search("Hyperband", {"epochs": str(epochs)}, goal=goal, jobs=len(levels), RandomSeed=1)
    lengths = []
    for level in levels:
        proposal, curve = search.propose(), []
        for epoch in range(1, epochs + 1):
            curve.append(level + (0.001 if goal == "Maximize" else -0.001) * epoch)
            if search.should_stop(proposal.number, curve):
                break
        search.finish(proposal.number, curve[-1])
        lengths.append(len(curve))
    return lengths


@pytest.mark.parametrize(("goal", "sign"), [("Maximize", 1), ("Minimize", -1)])
def test_hyperband_stops_bad_trials_and_lets_the_better_and_better_end_b8(goal, sign):
    worse = run_hyperband(goal, [0.9 - sign * n / 30 for n in range(24)])
    assert worse[0] == 9
    assert sum(length < 9 for length in worse[1:]) >= 8
    assert run_hyperband(goal, [0.5 + sign * n / 60 for n in range(24)]) == [9] * 24


def test_hyperband_judges_each_epoch_once():
    search = new_search("Hyperband", {"epochs": "9"}, RandomSeed=1)
    for level in (0.9, 0.8, 0.7, 0.6, 0.5):
        number = search.propose().number
        assert search.should_stop(number, []) is False
        search.should_stop(number, [level])
        assert search.should_stop(number, [level]) is False


# The median rule

OTHERS = [[0.2, 0.4, 0.9], [0.4, 0.6, 0.8], [0.6, 0.8, 0.7]]  # averages: 0.2 0.3 0.5, 0.4 0.5 0.6, 0.6 0.7 0.7


@pytest.mark.parametrize(
    ("curve", "maximize", "hopeless"),
    [
        ([0.39], True, True),
        ([0.4], True, False),
        ([0.41], False, True),
        ([0.4], False, False),
        ([0.9, 0.49], True, True),  # what counts is the last value, not its own average
        ([0.1, 0.51], True, False),
        ([0.1, 0.51], False, True),
        ([0.1, 0.1, 0.59], True, True),
        ([0.1, 0.1, 0.61], True, False),
        ([0.1, 0.1, 0.1, 0.1], True, False),  # no other came so far
        ([], True, False),
    ],
)
def test_the_last_value_is_compared_with_the_median_of_the_running_averages_b7(curve, maximize, hopeless):
    assert is_hopeless(curve, OTHERS, maximize) is hopeless


def test_fewer_than_three_others_that_came_so_far_say_nothing_b7():
    assert not is_hopeless([0.0, 0.0], [[0.9, 0.9], [0.9, 0.9], [0.9]], maximize=True)
    assert is_hopeless([0.0, 0.0], [[0.9, 0.9], [0.9, 0.9], [0.9, 0.9]], maximize=True)


def test_a_curve_has_one_value_an_epoch_and_not_the_last_line_b7():
    lines = [
        "start device=cpu",
        metric_line("epoch=1", {"valid_loss": 0.9, "valid_accuracy": 0.5}),
        metric_line("epoch=2", {"valid_loss": 0.8, "valid_accuracy": 0.7}),
        metric_line("best_epoch=2;", {"valid_accuracy": 0.7}),
    ]
    regexes = {definition["Name"]: definition["Regex"] for definition in metric_definitions()}
    assert metric_curve(lines, regexes["valid_accuracy"]) == [0.5, 0.7]
    assert metric_curve(lines, "no group") == metric_curve(lines, "(") == []


# The summary


def trial(number, objective=None, status="Completed", **more):
    values = {"optimizer": "adam", "learning_rate": f"0.{number}"}
    return Trial(number=number, status=status, objective=objective, hyperparameters=values, seconds=1.5, **more)


def summary(*trials, maximize=True, **more):
    ranges = {"optimizer": {"choices": ["adam"]}, "learning_rate": {"low": 0.0, "high": 1.0, "scaling": "Linear"}}
    return Summary(
        name="dogs",
        status="Completed",
        strategy="Random",
        metric="valid_accuracy",
        maximize=maximize,
        seconds=12.34,
        static={"epochs": "4"},
        ranges=ranges,
        trials=trials,
        **more,
    )


@pytest.mark.parametrize(("maximize", "best"), [(True, 2), (False, 4)])
def test_the_best_trial_is_the_earliest_with_the_best_objective(maximize, best):
    found = summary(trial(1, 0.5), trial(2, 0.9), trial(3, 0.9), trial(4, 0.1), trial(5, 0.1), maximize=maximize)
    assert found.best.number == best
    assert ranked(found)[0] is found.best


def test_only_trials_that_ended_and_did_not_fail_can_be_best():
    found = summary(trial(1, 0.99, "Failed"), trial(2), trial(3, 0.95, "InProgress"), trial(4, 0.6, "Stopped"))
    assert found.best.number == 4
    assert ranked(found)[0].number == 4
    assert ranked(found)[-1].number == 2 or ranked(found)[-1].objective is not None
    assert summary(trial(1, None, "Failed")).best is None


def test_an_objective_of_zero_is_an_objective():
    assert summary(trial(1), trial(2, 0.0)).best.number == 2
    assert summary(trial(1, 0.0), trial(2, -1.0), maximize=False).best.number == 2


def test_the_summary_is_written_for_programs_and_for_people(tmp_path):
    trials = (
        trial(1, 0.51239, job="dogs-001", metrics={"valid_accuracy": 0.51239, "valid_loss": 2.0}, curve=[0.4, 0.51239]),
        trial(2, None, "Failed", reason="the loss is no longer a number"),
        trial(3, 0.75),
    )
    write_summary(tmp_path, summary(*trials, importance={"learning_rate": 0.8, "optimizer": 0.2}))
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert found["best"] == {
        "number": 3,
        "job": "",
        "objective": 0.75,
        "hyperparameters": {"epochs": "4", "optimizer": "adam", "learning_rate": "0.3"},
    }
    assert found["objective"] == {"metric": "valid_accuracy", "goal": "Maximize"}
    assert (found["name"], found["strategy"], found["seconds"]) == ("dogs", "Random", 12.3)
    assert found["importance"] == {"learning_rate": 0.8, "optimizer": 0.2}
    assert [entry["number"] for entry in found["trials"]] == [1, 2, 3]
    assert found["trials"][0]["curve"] == [0.4, 0.51239]
    with (tmp_path / "tuning.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["trial"] for line in lines] == ["1", "2", "3"]
    assert (lines[0]["valid_loss"], lines[0]["learning_rate"], lines[0]["job"]) == ("2.0", "0.1", "dogs-001")
    assert (lines[1]["objective"], lines[1]["reason"]) == ("", "the loss is no longer a number")
    text = (tmp_path / "tuning.md").read_text().splitlines()
    assert text[:3] == ["# dogs", "", "3 trials in 12.3 s, Random: Completed."]
    assert text[4] == "Best: trial 3, valid_accuracy 0.7500, with optimizer=adam, learning_rate=0.3."
    assert text[6:] == [
        "| trial | status | optimizer | learning_rate | valid_accuracy | seconds |",
        "|---|---|---|---|---|---|",
        "| 3 | Completed | adam | 0.3 | 0.7500 | 1.5 |",
        "| 1 | Completed | adam | 0.1 | 0.5124 | 1.5 |",
        "| 2 | Failed | adam | 0.2 |  | 1.5 |",
    ]


def test_a_search_without_an_end_is_told_with_its_reason():
    text = markdown(summary(trial(1, None, "Failed"), reason="No training job has succeeded."))
    assert "1 trials in 12.3 s, Random: Completed. No training job has succeeded." in text
    assert "Best" not in text


def test_a_pipe_does_not_break_the_table():
    odd = Trial(number=1, status="Completed", hyperparameters={"a|b": "x|y"}, objective=0.5)
    found = summary(odd)
    table = markdown(
        Summary(**{**{name: getattr(found, name) for name in found.__dict__}, "ranges": {"a|b": {"choices": ["x|y"]}}})
    ).splitlines()[6:]
    assert table == [
        r"| trial | status | a\|b | valid_accuracy | seconds |",
        "|---|---|---|---|---|",
        r"| 1 | Completed | x\|y | 0.5000 |  |",
    ]


def test_the_best_hyperparameters_are_read_back_with_the_static_ones(tmp_path):
    write_summary(tmp_path, summary(trial(1, 0.5)))
    assert read_best(tmp_path) == {"epochs": "4", "optimizer": "adam", "learning_rate": "0.1"}


def test_a_search_without_a_best_trial_has_nothing_to_read(tmp_path):
    write_summary(tmp_path, summary(trial(1, None, "Failed")))
    with pytest.raises(SearchError, match="the search dogs is Completed and has no best trial yet"):
        read_best(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"best": null}', "\\x00"])
def test_what_is_no_summary_is_refused_with_its_path(tmp_path, content):
    (tmp_path / "tuning.json").write_text(content)
    for read in (read_best, read_summary):
        with pytest.raises(SearchError, match=r"tuning\.json is no summary of a search"):
            read(tmp_path)


def test_a_search_without_a_summary_is_told_by_its_name(tmp_path):
    for read in (read_best, read_summary):
        with pytest.raises(SearchError, match="there is no summary of a search dogs"):
            read(tmp_path / "dogs")


def test_a_summary_is_read_as_it_was_written(tmp_path):
    trials = (trial(1, 0.5, curve=[0.4, 0.5], metrics={"valid_loss": 1.0}), trial(2, None, "Failed", reason="why"))
    written = summary(*trials, reason="because", importance={"optimizer": 1.0})
    write_summary(tmp_path, written)
    found = read_summary(tmp_path)
    assert found.to_json() == json.loads(json.dumps(written.to_json()))
    assert found.best.number == written.best.number == 1


# The importance


def rated(count, objective, maximize=True):
    """Return trials with evenly spread values, and their objectives."""
    numbers = random.Random(1)
    trials = []
    for number in range(1, count + 1):
        rate, epochs, optimizer = 10 ** numbers.uniform(-5, -1), numbers.randint(5, 20), numbers.choice(["a", "b"])
        values = {"learning_rate": f"{rate:.6g}", "epochs": str(epochs), "optimizer": optimizer}
        value = objective(rate, epochs, optimizer) * (1 if maximize else -1)
        trials.append(Trial(number=number, status="Completed", hyperparameters=values, objective=value))
    return trials


THREE = {**integer(), **continuous(ScalingType="Logarithmic"), **categorical(optimizer=["a", "b"])}


@pytest.mark.parametrize("maximize", [True, False])
def test_what_decides_has_the_largest_share(maximize):
    trials = rated(60, lambda rate, epochs, optimizer: -abs(math.log10(rate) + 3) + epochs / 1000, maximize)
    shares = importances(THREE, trials, maximize)
    assert set(shares) == {"learning_rate", "epochs", "optimizer"}
    assert max(shares, key=shares.get) == "learning_rate"
    assert sum(shares.values()) == pytest.approx(1, abs=0.001)


def test_fewer_than_eight_trials_and_equal_ones_tell_nothing():
    assert importances(THREE, rated(MIN_TRIALS - 1, lambda *values: values[0]), True) == {}
    assert importances(THREE, rated(MIN_TRIALS, lambda *values: 0.5), True) == {}
    assert importances(THREE, rated(MIN_TRIALS, lambda *values: values[0]), True) != {}


def test_failed_trials_do_not_count_for_the_importance():
    trials = rated(MIN_TRIALS, lambda *values: values[0])
    failed = Trial(number=9, status="Failed", hyperparameters=trials[0].hyperparameters, objective=0.1)
    assert importances(THREE, [*trials[1:], failed], True) == {}


def test_one_hyperparameter_has_it_all():
    assert importances(integer(), rated(MIN_TRIALS, lambda *values: values[0]), True) == {"epochs": 1.0}


def test_a_range_of_one_value_has_no_share():
    ranges = {**continuous(ScalingType="Logarithmic"), **integer(low="7", high="7")}
    trials = [
        Trial(t.number, "Completed", {**t.hyperparameters, "epochs": "7"}, objective=t.objective)
        for t in rated(20, lambda *values: values[0])
    ]
    assert importances(ranges, trials, True) == {"learning_rate": 1.0, "epochs": 0.0}
