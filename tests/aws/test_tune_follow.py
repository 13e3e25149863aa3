"""`kennel tune --on aws`: a search is followed and stopped, as botocore's stubber plays it: moto's end at once."""

import csv
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from rich.console import Console

from kennel.tuning.summary import JSON, read_summary
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import client_error
from kennel_cli.requests import tuning_job
from kennel_cli.tune import follow as following
from kennel_cli.tune import screen
from kennel_cli.tune.plan import Plan, parse_ranges, tuning_config
from tests.aws.conftest import REGION, described, write_log
from tests.aws.searches import PAGE, PHOTOS, RATE, follow, interrupt, searches

BEGAN = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
GOES_ON = (
    "the search goes on; `kennel tune --resume dogs --on aws` follows it again, `kennel stop dogs --on aws` ends it"
)
STOPPING = "the search is stopping; `kennel tune --resume dogs --on aws` follows it again"


class Account:
    """What SageMaker knows of the search `dogs`, and what it is expected to be asked of it, in order."""

    def __init__(self, stubber, settings):
        self._stubber = stubber
        self._ended = set()
        space = parse_ranges([RATE[1]], ["optimizer=sgd,adamw"])
        plan = Plan(space, {"epochs": "2", "weights": "none"}, objective="valid_accuracy")
        request = tuning_job("dogs", tuning_config(plan), {"training": "s3://photos/dogs"}, plan.static, settings)
        request.pop("Tags")
        self.request = request

    def describe(self, status="InProgress", **more):
        """Expect one question for the search, and answer it."""
        ended = {} if status in ("InProgress", "Stopping") else {"HyperParameterTuningEndTime": minute(10)}
        answer = {
            **self.request,
            "HyperParameterTuningJobArn": f"{ARN}:hyper-parameter-tuning-job/dogs",
            "HyperParameterTuningJobStatus": status,
            "CreationTime": BEGAN,
            "TrainingJobStatusCounters": {},
            "ObjectiveStatusCounters": {},
            **ended,
            **more,
        }
        name = {"HyperParameterTuningJobName": "dogs"}
        self._stubber.add_response("describe_hyper_parameter_tuning_job", answer, name)

    def look(self, status, *pages, **more):
        """Expect one look: the search, its jobs page by page, and each job that ended since the last look."""
        self.describe(status, **more)
        asked = {
            "HyperParameterTuningJobName": "dogs",
            "MaxResults": 100,
            "SortBy": "CreationTime",
            "SortOrder": "Ascending",
        }
        for number, jobs in enumerate(pages or [[]], start=1):
            token = {"NextToken": f"page {number + 1}"} if number < len(pages) else {}
            self._stubber.add_response(
                "list_training_jobs_for_hyper_parameter_tuning_job",
                {"TrainingJobSummaries": jobs, **token},
                dict(asked),
            )
            asked |= token
            for one in jobs:
                self._describe_ended(one)

    def forget(self):
        """Expect that jobs which have ended are asked for again: another process follows the search."""
        self._ended.clear()

    def _describe_ended(self, one):
        name = one["TrainingJobName"]
        if one["TrainingJobStatus"] in ("InProgress", "Stopping") or name in self._ended:
            return
        self._ended.add(name)
        final = one.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
        metrics = [] if final is None else [{"MetricName": "valid_accuracy", "Value": final, "Timestamp": BEGAN}]
        answer = described(one["TrainingJobStatus"], TrainingJobName=name, FinalMetricDataList=metrics)
        self._stubber.add_response("describe_training_job", answer, {"TrainingJobName": name})


def minute(number):
    return BEGAN + timedelta(minutes=number)


def job(number, status="Completed", accuracy=None, **more):
    """Return what the service says of a trial that runs for a minute and a half."""
    ended = {} if status in ("InProgress", "Stopping") else {"TrainingEndTime": minute(number + 1.5)}
    final = {"MetricName": "valid_accuracy", "Value": accuracy}
    return {
        "TrainingJobName": f"dogs-{number:03}-abcdef01",
        "TrainingJobArn": f"{ARN}:training-job/dogs-{number:03}-abcdef01",
        "CreationTime": minute(number),
        "TrainingJobStatus": status,
        "TunedHyperParameters": {"learning_rate": f"0.0{number}", "optimizer": "sgd"},
        **ended,
        **({} if accuracy is None else {"FinalHyperParameterTuningJobObjectiveMetric": final}),
        **more,
    }


@pytest.fixture
def aws(kennel, platform, stubbed, monkeypatch):
    """The stubbed SageMaker client of the command, which knows the search `dogs`."""
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    return Account(stubbed, platform.settings)


def test_a_search_is_followed_to_its_end_and_its_trials_shown_best_first(kennel, aws, stubbed, home):
    stubbed.add_response("create_hyper_parameter_tuning_job", {"HyperParameterTuningJobArn": ARN})
    aws.look("InProgress")
    aws.look("InProgress", [job(1, "InProgress")])
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.9)])
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[:6] == [
        "search dogs",
        f"its page: {PAGE}",
        "trial=1; status=InProgress; learning_rate=0.01; optimizer=sgd;",
        "trial=1; status=Completed; valid_accuracy=0.8000; seconds=90.0; learning_rate=0.01; optimizer=sgd;",
        "trial=2; status=InProgress; learning_rate=0.02; optimizer=sgd;",
        "trial=2; status=Completed; valid_accuracy=0.9000; seconds=90.0; learning_rate=0.02; optimizer=sgd;",
    ]
    table = "\n".join(lines[6:])
    assert table.index("0.9000") < table.index("0.8000")
    assert "search dogs is Completed after 600.0 s" in lines
    assert "the best:      trial 2, valid_accuracy 0.9000" in lines
    assert "train with it: kennel train --from-tuning dogs --on aws --data …" in lines
    assert f"all of it:     {home}/tuning/dogs/tuning.html" in lines
    assert "serve it with" not in ended.stdout  # endpoints are of this machine


def test_on_a_terminal_a_table_is_redrawn_and_the_final_one_stays(kennel, aws, monkeypatch):
    screen_of = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(following, "console", screen_of)
    aws.describe()
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.9)])
    assert follow(kennel).code == 0
    shown = screen_of.file.getvalue()
    assert "dogs · InProgress" in shown
    assert "trial=1;" not in shown
    final = shown[shown.rindex("hyperparameters") :]
    assert final.index("0.9000") < final.index("0.8000")
    assert "the best:      trial 2" in final


def test_what_was_found_is_written_into_four_files(kennel, aws, home):
    jobs = [job(1, "Completed", 0.8), job(2, "Stopped", 0.7), job(3, "Failed", FailureReason="ClientError: no")]
    aws.describe()
    aws.look("Completed", jobs)
    assert follow(kennel).code == 0
    folder = home / "tuning" / "dogs"
    assert {file.name for file in folder.iterdir()} == {"tuning.json", "tuning.csv", "tuning.md", "tuning.html"}
    summary = read_summary(folder)
    assert (summary.name, summary.status, summary.strategy) == ("dogs", "Completed", "Bayesian")
    assert [trial.status for trial in summary.trials] == ["Completed", "Stopped", "Failed"]
    assert [trial.job for trial in summary.trials] == [one["TrainingJobName"] for one in jobs]
    assert summary.trials[0].metrics == {"valid_accuracy": 0.8}
    assert summary.trials[1].started == 120.0
    assert json.loads((folder / JSON).read_text())["best"] == {
        "number": 1,
        "job": "dogs-001-abcdef01",
        "objective": 0.8,
        "hyperparameters": {"epochs": "2", "weights": "none", "learning_rate": "0.01", "optimizer": "sgd"},
    }
    rows = list(csv.DictReader(io.StringIO((folder / "tuning.csv").read_text())))
    assert [row["reason"] for row in rows] == ["", "", "ClientError: no"]
    assert "Best: trial 1, valid_accuracy 0.8000" in (folder / "tuning.md").read_text()
    assert "dogs" in (folder / "tuning.html").read_text()


def test_jobs_come_in_pages_and_those_that_ended_are_asked_for_once(kennel, aws):
    aws.describe()
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "InProgress")])
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "Completed", 0.7)])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "Completed", 0.7)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "the best:      trial 1" in ended.stdout
    assert ended.stdout.count("trial=3; status=Completed;") == 1


def test_learning_curves_are_those_of_the_logs_without_the_line_that_repeats_b5(kennel, aws, logs, home):
    stream = "dogs-001-abcdef01/algo-1-1"
    write_log(logs, ["start device=cuda;", "epoch=1 train_loss=0.5; valid_accuracy=0.6000;"], stream)
    write_log(logs, ["epoch=2 valid_accuracy=0.8000;", "best_epoch=2; valid_accuracy=0.8000;"], stream, after=10)
    write_log(logs, ["epoch=1 valid_accuracy=0.1000;"], "dogs-002-abcdef01/algo-1-1")
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress"), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Stopped", 0.1)])
    assert follow(kennel).code == 0
    assert [trial.curve for trial in read_summary(home / "tuning" / "dogs").trials] == [[0.6, 0.8], [0.1]]


def eight(**more):
    """Return as many trials as it takes to tell which hyperparameter matters."""
    return [job(number, "Completed", number / 10, **more) for number in range(1, 9)]


def test_what_mattered_is_told_of_eight_trials(kennel, aws, home):
    aws.describe()
    aws.look("Completed", eight())
    assert follow(kennel).code == 0
    importance = read_summary(home / "tuning" / "dogs").importance
    assert set(importance) == {"learning_rate", "optimizer"}
    assert importance["learning_rate"] > importance["optimizer"]


@pytest.mark.parametrize(
    "values", [{"learning_rate": "7", "optimizer": "lion"}, {"learning_rate": "low", "optimizer": "sgd"}, {}]
)
def test_values_that_the_ranges_do_not_hold_cost_no_more_than_what_mattered(kennel, aws, home, values):
    aws.describe()
    aws.look("Completed", eight(TunedHyperParameters=values))
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert read_summary(home / "tuning" / "dogs").importance == {}
    assert (home / "tuning" / "dogs" / "tuning.html").exists()


def test_the_last_lines_of_a_log_may_come_after_the_end_of_the_search(kennel, aws, logs, monkeypatch, home):
    now = datetime.now(UTC)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        write_log(logs, ["epoch=2 valid_accuracy=0.8000;"], "dogs-001-abcdef01/algo-1-1", after=10)

    monkeypatch.setattr(AwsPlatform, "log_delay", 60.0)
    monkeypatch.setattr(following.time, "sleep", wait)
    write_log(logs, ["epoch=1 valid_accuracy=0.6000;"], "dogs-001-abcdef01/algo-1-1")
    late = job(1, "Completed", 0.8, TrainingEndTime=now)
    aws.describe()
    aws.look("Completed", [late])
    aws.forget()
    aws.look("Completed", [late])
    assert follow(kennel).code == 0
    assert waits == [60.0]
    assert read_summary(home / "tuning" / "dogs").trials[0].curve == [0.6, 0.8]


def test_a_job_that_never_began_has_no_time(kennel, aws, home):
    failed = job(1, "Failed", FailureReason="CapacityError: no machine is free")
    del failed["TrainingEndTime"]
    aws.describe()
    aws.look("Completed", [failed, job(2, "Completed", 0.8)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    line = "trial=1; status=Failed; learning_rate=0.01; optimizer=sgd; CapacityError: no machine is free"
    assert line in ended.stdout.splitlines()
    assert read_summary(home / "tuning" / "dogs").trials[0].seconds is None


def test_a_failed_search_is_exit_code_1_with_its_reason(kennel, aws, home):
    aws.describe()
    aws.look("Failed", [job(1, "Failed", FailureReason="AlgorithmError: bad")], FailureReason="all jobs failed")
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr == "kennel: the search dogs failed: all jobs failed\n"
    assert "AlgorithmError: bad" in ended.stdout
    assert read_summary(home / "tuning" / "dogs").reason == "all jobs failed"


def test_a_stopped_search_shows_what_it_found(kennel, aws):
    aws.describe()
    aws.look("Stopping", [job(1, "Completed", 0.8), job(2, "Stopping")])
    aws.look("Stopped", [job(1, "Completed", 0.8), job(2, "Stopped")])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped after 600.0 s" in ended.stdout
    assert "the best:      trial 1" in ended.stdout
    assert ended.stdout.count("trial=2;") == 2  # when it was seen first, and its end


def test_a_search_without_a_trial_has_no_best_one(kennel, aws):
    aws.describe()
    aws.look("Stopped")
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout
    assert "the best" not in ended.stdout


def test_a_search_that_nobody_knows_is_one_sentence(kennel):
    ended = kennel("tune", "--on", "aws", "--resume", "nobody")
    assert ended.code == 1
    assert ended.stderr == "kennel: there is no search nobody; see `kennel jobs --on aws`\n"


def test_a_training_job_is_no_search(kennel):
    assert kennel("train", "--on", "aws", *PHOTOS, "--name", "dogs", "--detach").code == 0
    assert "there is no search dogs" in follow(kennel).stderr


def test_a_search_of_another_program_is_one_sentence(kennel, aws):
    definition = aws.request.pop("TrainingJobDefinition")
    aws.request["TrainingJobDefinitions"] = [definition, definition]
    aws.describe()
    aws.describe()
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: the search dogs has several definitions of its training jobs")


# Stopping


def test_a_search_is_stopped_and_waited_for(kennel, aws, stubbed):
    aws.describe()
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    aws.look("Stopped", [job(1, "Stopped", 0.6)])
    ended = kennel("stop", "dogs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout


def test_a_search_that_has_ended_is_not_stopped(kennel, aws, stubbed):
    aws.describe("Completed")
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "ValidationException", "it is Completed")
    ended = kennel("stop", "dogs", "--on", "aws")
    assert (ended.code, ended.stderr) == (1, "kennel: it is Completed\n")


def test_ctrl_c_leaves_the_search_alone_and_says_how_to_follow_and_stop_it(kennel, monkeypatch, sagemaker):
    monkeypatch.setattr(following, "follow_search", interrupt)
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 130
    assert GOES_ON in ended.stdout.splitlines()
    assert searches(sagemaker) == ["dogs"]


def interrupted(monkeypatch, *times):
    """Press Ctrl-C at these waits between two looks; 1 is the first."""
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) in times:
            raise KeyboardInterrupt

    monkeypatch.setattr(screen.time, "sleep", wait)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(following.typer, "confirm", lambda *arguments, **more: True)


def test_who_says_so_stops_the_search_with_ctrl_c(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopped", [job(1, "Stopped", 0.6)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout


def test_a_second_ctrl_c_leaves_a_search_that_is_stopping(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1, 2)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    ended = follow(kennel)
    assert ended.code == 130
    assert STOPPING in ended.stdout.splitlines()


def test_a_search_that_may_not_be_stopped_goes_on_and_that_is_said(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "AccessDeniedException", "not allowed to stop")
    ended = follow(kennel)
    denied = "kennel may not do sagemaker:StopHyperParameterTuningJob (not allowed to stop)"
    assert ended.code == 1
    assert ended.stderr == f"kennel: {denied}; give it to your user or role with an IAM policy; {GOES_ON}\n"


def test_a_search_that_has_ended_before_ctrl_c_is_shown(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "ValidationException", "it is Completed")
    aws.look("Completed", [job(1, "Completed", 0.6)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Completed" in ended.stdout


def test_a_stop_that_is_not_watched_to_its_end_is_said(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    ended = kennel("stop", "dogs", "--on", "aws")
    assert ended.code == 130
    assert STOPPING in ended.stdout.splitlines()


# What AWS answers instead


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            client_error("ExpiredTokenException", "The security token is expired", "List"),
            "AWS does not accept the credentials (The security token is expired); log in again",
        ),
        (client_error("ThrottlingException", "Rate exceeded", "List"), "Rate exceeded"),
        (client_error("AccessDeniedException", "no", "List"), "kennel may not do sagemaker:List (no); give it to"),
        (EndpointConnectionError(endpoint_url="https://api"), "SageMaker does not answer: Could not connect"),
    ],
    ids=["expired", "throttled", "forbidden", "offline"],
)
def test_a_search_that_can_no_longer_be_asked_for_goes_on_and_that_is_said(kennel, monkeypatch, error, sentence):
    def lose(*arguments):
        raise error

    monkeypatch.setattr(following, "follow_search", lose)
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 1
    assert ended.stderr.startswith(f"kennel: {sentence}")
    assert ended.stderr.endswith(f"; {GOES_ON}\n")


def test_credentials_that_expire_between_two_looks_are_said(kennel, aws, stubbed):
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("describe_hyper_parameter_tuning_job", "ExpiredTokenException", "it is expired")
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr == (
        "kennel: AWS does not accept the credentials (it is expired); log in again: `aws sso login`, or set new keys; "
        f"{GOES_ON}\n"
    )


# Listing


def test_jobs_and_searches_are_listed_newest_first(kennel, aws, stubbed):
    asked = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 20}
    counters = {"Completed": 3, "InProgress": 1, "RetryableError": 0, "NonRetryableError": 1, "Stopped": 0}
    one = {
        "HyperParameterTuningJobName": "dogs",
        "HyperParameterTuningJobArn": ARN,
        "HyperParameterTuningJobStatus": "InProgress",
        "Strategy": "Random",
        "CreationTime": BEGAN,
        "TrainingJobStatusCounters": counters,
        "ObjectiveStatusCounters": {},
    }
    stubbed.add_response("list_training_jobs", {"TrainingJobSummaries": []}, asked)
    stubbed.add_response("list_hyper_parameter_tuning_jobs", {"HyperParameterTuningJobSummaries": [one]}, asked)
    stubbed.add_response("list_transform_jobs", {"TransformJobSummaries": []}, asked)
    newest = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    stubbed.add_response("list_endpoints", {"Endpoints": []}, newest)
    ended = kennel("jobs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    [row] = [line for line in ended.stdout.splitlines() if "dogs" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["InProgress", "Random"]
    assert row.rstrip(" │").endswith("5")
