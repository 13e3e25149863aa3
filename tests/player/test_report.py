"""`kennel report`, on this machine."""

import json
import sys
import webbrowser

import pytest

from kennel_cli import cli
from kennel_cli.platforms.records import now
from kennel_cli.settings import LOCAL
from kennel_cli.tune import screen
from tests.job_output import write_job_output


@pytest.fixture
def kennel(monkeypatch, capsys, home):
    """Run the command in this process, and return its exit code, its output and the pages that it opened."""

    def run(*arguments):
        opened = []
        monkeypatch.setattr(webbrowser, "open", opened.append)
        monkeypatch.setattr(sys, "argv", ["kennel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return ended.value.code or 0, written.out + written.err, opened

    return run


@pytest.fixture
def job(home, request_for):
    """Write a job of this machine as if it had run, and return the folder of its output."""

    def write(name="job-1", status="Completed", **output):
        folder = home / "training-jobs" / name
        folder.mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps(request_for(name)))
        times = {"CreationTime": now(), "LastModifiedTime": now()}
        described = {"TrainingJobArn": f"arn:aws:sagemaker:local:000000000000:training-job/{name}", **times}
        described |= {"TrainingJobStatus": status, "SecondaryStatus": status}
        (folder / "status.json").write_text(json.dumps(described))
        return write_job_output(folder / "ml" / "output" / "data", name=name, **output)

    return write


def test_the_report_of_a_job_is_made_anew_and_opened(kennel, job):
    folder = job()
    code, said, opened = kennel("report", "job-1")
    assert code == 0, said
    page = folder / "report.html"
    assert said == f"the report:    {page}\n"
    assert opened == [page.as_uri()]
    assert json.loads((folder / "report.json").read_text())["image"] == LOCAL.image  # known from the request alone
    assert kennel("report", "job-1", "--no-open")[2] == []


def test_a_price_gives_an_estimate_of_the_cost(kennel, job, monkeypatch):
    folder = job()
    kennel("report", "job-1", "--price", "1.4", "--no-open")
    assert json.loads((folder / "report.json").read_text())["cost"] == 0.035
    monkeypatch.setenv("KENNEL_INSTANCE_PRICE", "3600")
    kennel("report", "job-1", "--no-open")
    assert json.loads((folder / "report.json").read_text())["cost"] == 90
    code, said, _ = kennel("report", "job-1", "--price", "-1")
    assert (code, "--price" in said) == (2, True)


def test_two_jobs_are_compared_on_a_page_of_their_own(kennel, job, home):
    job("job-1"), job("job-2", hyperparameters={"learning_rate": 0.01})
    code, said, opened = kennel("report", "job-1", "job-2")
    assert code == 0, said
    page = home / "reports" / "job-1--job-2.html"
    assert opened == [page.as_uri()]
    assert "learning_rate" in page.read_text()


def test_a_folder_with_a_job_s_output_will_do(kennel, tmp_path):
    folder = write_job_output(tmp_path / "unpacked", name="from/elsewhere")
    code, said, opened = kennel("report", folder)
    assert (code, opened) == (0, [(folder / "report.html").as_uri()]), said
    assert kennel("report", folder, folder)[2][0].endswith("/reports/from-elsewhere--from-elsewhere.html")


def test_a_job_whose_machine_went_down_is_shown_as_it_is_known_now(kennel, job):
    folder = job(status="Failed")
    value = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**value, "status": "InProgress", "seconds": None}))
    assert kennel("report", "job-1", "--no-open")[0] == 0
    assert json.loads((folder / "report.json").read_text())["status"] == "Failed"


def test_no_such_job_and_a_job_without_a_record_are_one_sentence(kennel, job):
    assert kennel("report", "nobody")[:2] == (1, "kennel: there is no training job nobody; see `kennel jobs`\n")
    (job() / "job.json").unlink()
    code, said, _ = kennel("report", "job-1")
    assert code == 1
    assert "job.json cannot be read" in said
    assert len(said.splitlines()) == 1


def test_the_page_of_a_search_links_the_reports_of_its_trials(job, home):
    from kennel.report.job_page import write_job_page
    from kennel.tuning.summary import Summary, Trial

    write_job_page(job("dogs-001"))
    trials = [Trial(number, "Completed", {}, job=f"dogs-00{number}", objective=0.5) for number in (1, 2)]
    summary = Summary("dogs", "Completed", "Random", "valid_loss", False, 1.0, {}, {}, trials)
    folder = home / "tuning" / "dogs"
    screen.write_files(folder, summary)
    text = (folder / "tuning.html").read_text()
    address = "../../training-jobs/dogs-001/ml/output/data/report.html"
    assert f'href="{address}"' in text
    assert (folder / address).exists()
    assert "dogs-002/" not in text
