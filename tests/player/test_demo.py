import re
import subprocess
import sys
from pathlib import Path

from kennel_cli.demo import write_digits
from tests.samples import COLOURS, SMALL_BACKBONE


def test_the_demo_shows_accuracy_predictions_and_where_the_model_lies(home, colour_images, small_weights):
    """On images of one's own; on the digits `make demo` itself looks at the accuracy."""
    own = ["--data", colour_images, "--weights", small_weights, "--backbone", SMALL_BACKBONE]
    command = [sys.executable, "-m", "kennel_cli.cli", "demo", *map(str, own)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    accuracy = re.search(r"test accuracy (0\.\d+|1\.0+)", done.stdout)
    assert float(accuracy.group(1)) >= 0.75
    assert len(re.findall(r"trial=\d; status=Completed; valid_loss=", done.stdout)) == 4
    shown = re.findall(r"│ \d\.png +│ (\w+) +│ (\w+) +│", done.stdout)
    assert len(shown) == 3
    assert {name for pair in shown for name in pair} <= set(COLOURS)
    assert sum(true == said for true, said in shown) >= 2
    report = re.search(rf"the report: +({home}/training-jobs/.*/report.html)", done.stdout).group(1)
    assert "What it gets wrong" in Path(report).read_text()
    assert re.search(rf"the model: +{home}/s3/kennel-local/training/.*/model.tar.gz", done.stdout)


def test_digits_that_were_not_learned_are_an_error(home):
    """A twentieth of them is too few."""
    for file in sorted(write_digits(home / "datasets" / "digits").rglob("*.png")):
        if int(file.stem) // 5 % 20:
            file.unlink()
    done = subprocess.run([sys.executable, "-m", "kennel_cli.cli", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(re.findall(r"trial=\d; status=Completed; valid_loss=", done.stdout)) == 3
    assert len(re.findall(r"│ \d{4}\.png │ (\d) +│ (\d) +│", done.stdout)) == 3
    assert "the digits' test accuracy is 0." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_digits_are_written_once_as_an_image_folder(tmp_path):
    folder = write_digits(tmp_path / "digits")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 1797
    assert {file.parent.name for file in files} == set("0123456789")
    assert {file.parent.parent.name for file in files} == {"train", "valid", "test"}
    before = files[0].stat().st_mtime_ns
    assert write_digits(folder) == folder
    assert files[0].stat().st_mtime_ns == before
