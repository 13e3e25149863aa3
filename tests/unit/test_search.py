"""The search itself: the strategies, what a killed one keeps, and what it takes from earlier ones."""

import json
import math
import random
import subprocess
import sys
from collections import Counter

import optuna
import pytest

from kennel.errors import SearchError
from kennel.tuning.search import Prior, Search
from tests.unit.ranges import MIXED, categorical, continuous, integer

DEFAULTS = {"epochs": "15", "learning_rate": "0.0005", "optimizer": "adamw", "batch_size": "64", "momentum": "0.9"}
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
