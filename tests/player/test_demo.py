import re
import subprocess
import sys
from pathlib import Path

from kennel_cli.demo import write_digits


def test_the_demo_shows_accuracy_predictions_and_where_the_model_lies(home):
    command = [sys.executable, "-m", "kennel_cli.cli", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    accuracy = re.search(r"test accuracy (0\.\d+|1\.0+)", done.stdout)
    assert float(accuracy.group(1)) >= 0.95
    assert len(re.findall(r"trial=\d; status=Completed; valid_loss=", done.stdout)) == 3
    shown = re.findall(r"│ \d{4}\.png │ (\d) +│ (\d) +│", done.stdout)
    assert len(shown) == 3
    assert sum(true == said for true, said in shown) >= 2
    report = re.search(rf"the report: +({home}/training-jobs/.*/report.html)", done.stdout).group(1)
    assert "What it gets wrong" in Path(report).read_text()
    assert re.search(rf"the model: +{home}/s3/kennel-local/training/.*/model.tar.gz", done.stdout)


def test_the_digits_are_written_once_as_an_image_folder(tmp_path):
    folder = write_digits(tmp_path / "digits")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 1797
    assert {file.parent.name for file in files} == set("0123456789")
    assert {file.parent.parent.name for file in files} == {"train", "valid", "test"}
    before = files[0].stat().st_mtime_ns
    assert write_digits(folder) == folder
    assert files[0].stat().st_mtime_ns == before
