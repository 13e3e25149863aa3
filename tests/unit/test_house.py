"""The rules of the house that no linter knows."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

from kennel_cli.platforms.warm import _NOT_KEPT

ROOT = Path(__file__).parents[2]

# who may import whom inside `kennel`, beside the modules at its top
ALLOWED = {
    "images": set(),
    "model": {"images"},
    "engines": {"model", "images"},
    "training": {"engines", "model", "images"},
    "serving": {"engines", "model", "images", "container.environment"},
    "tuning": {"training"},
    "container": {
        "training",
        "serving",
        "tuning",
        "report",
        "debugger",
        "profiler",
        "judging",
        "model.weights_files",
    },
    "report": set(),
    "judging": set(),
    "debugger": {"judging"},
    "profiler": {"judging"},
}
LIGHT = {
    "kennel",
    "kennel.atomic",
    "kennel.cache",
    "kennel.channels",
    "kennel.errors",
    "kennel.forking",
    "kennel.hyperparameters",
    "kennel.images.index",
    "kennel.judging.choice",
    "kennel.lasting",
    "kennel.machine",
    "kennel.metrics",
    "kennel.report.comparison_page",
    "kennel.report.job_page",
    "kennel.report.job_record",
    "kennel.report.load_page",
    "kennel.report.load_record",
    "kennel.report.pages",
    "kennel.report.scales",
    "kennel.report.tuning_page",
    "kennel.tuning.space",
    "kennel.tuning.summary",
}
# who may import what is not light: the local tuner, the summary where Optuna is installed, rules on saved tensors,
# and a model that answers without a server
HEAVY = {
    "tuning_keeper.py": {"kennel.tuning.search"},
    "export.py": {"kennel.model.manifest", "kennel.training.exporting"},
    "watch.py": {"kennel.tuning.importance"},
    "in_process.py": {"kennel.serving.app", "kennel.serving.service"},
    "debug.py": {"kennel.judging.judge", "kennel.debugger.rules", "kennel.debugger.trial"},
}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room):
    allowed = {room, *ALLOWED[room]}
    for file in (ROOT / "code" / "kennel" / room).rglob("*.py"):
        for module in imports(file):
            parts = module.split(".")
            if parts[0] == "kennel" and len(parts) > 1 and (ROOT / "code" / "kennel" / parts[1]).is_dir():
                assert {parts[1], ".".join(parts[1:])} & allowed, f"{file.name} imports {module}"


def test_the_core_does_not_know_the_command_line_and_the_command_line_only_light_modules():
    for file in (ROOT / "code").rglob("*.py"):
        assert not any(module.startswith("kennel_cli") for module in imports(file)), file
    for file in (ROOT / "scripts").rglob("*.py"):
        used = {module for module in imports(file) if module.split(".")[0] == "kennel"}
        assert used <= LIGHT | HEAVY.get(file.name, set()), f"{file.name} imports {used - LIGHT}"


def test_what_binds_the_toolkits_folders_when_imported_is_imported_anew_in_each_fork():
    for file in (ROOT / "code" / "kennel" / "container").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sagemaker_training"):
                assert f"kennel.container.{file.stem}" in _NOT_KEPT, file


def setup(**environment):
    command = [str(ROOT / "scripts" / "setup")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_a_missing_compiler_or_python_is_said_with_what_to_install():
    missing = setup(CC="no-such-compiler")
    assert missing.returncode == 1
    assert missing.stderr.startswith("setup: there is no C compiler")
    assert "apt-get install gcc" in missing.stderr
    missing = setup(PYTHON="python9.9")
    assert missing.returncode == 1
    assert "there is no python9.9; install it" in missing.stderr


def test_make_alone_prints_every_target_with_its_help():
    printed = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "lint", "data", "bench-train"):
        assert f"make {target} " in printed
