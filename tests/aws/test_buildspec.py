"""buildspec.yml, as far as it can be checked without CodeBuild."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FROM_CODEBUILD = {"CODEBUILD_BUILD_SUCCEEDING"}  # set by the service


@pytest.fixture(scope="module")
def text():
    return (ROOT / "buildspec.yml").read_text()


@pytest.fixture(scope="module")
def spec(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def commands(spec):
    return [command for phase in spec["phases"].values() for command in phase["commands"]]


def test_it_is_of_version_0_2_with_phases_that_codebuild_knows(spec):
    assert spec["version"] == 0.2
    assert set(spec) <= {"version", "env", "phases", "artifacts", "cache"}
    assert list(spec["phases"]) == ["install", "pre_build", "build", "post_build"]


def test_it_lints_tests_builds_proves_and_pushes_in_this_order(commands):
    targets = [target for command in commands for target in re.findall(r"make (?:--\S+ )*([a-z-]+)", command)]
    assert targets == ["setup", "lint", "test", "build", "smoke", "sbom", "push"]


def test_every_make_target_is_defined(commands):
    for command in commands:
        for target in re.findall(r"make (?:--\S+ )*([a-z-]+)", command):
            dry_run = ["make", "--dry-run", "-C", ROOT, target]
            assert subprocess.run(dry_run, capture_output=True, check=False).returncode == 0, target


def test_every_command_is_good_shell(commands):
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_every_variable_is_explained_and_every_one_used_is_known(spec, text, commands):
    for name in spec["env"]["variables"]:
        assert re.search(rf"^ +{name}: .+ # .+", text, re.MULTILINE), f"{name} has no comment"
    used = {name for command in commands for name in re.findall(r"\$\{?([A-Z_]+)", command)}
    assert used <= FROM_CODEBUILD | set(spec["env"]["variables"])


def test_the_artifacts_are_what_the_commands_write(spec, commands):
    assert spec["artifacts"]["base-directory"] == "build"
    made = " ".join(commands) + (ROOT / "Makefile").read_text()
    for name in spec["artifacts"]["files"]:
        assert f"build/{name}" in made
