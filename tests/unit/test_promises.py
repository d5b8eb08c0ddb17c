"""The definitions of the gates are what `support.promises` says, and each of them fails if what it runs fails."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, settings
from support import promises
from support.definitions import (
    OVERRIDING,
    count_tests,
    defaults,
    definition_files,
    differences,
    evaluated,
    limits,
    prerequisites,
    repository,
    running_files,
    source_files,
    stated,
    switched_off,
    too_few,
)
from support.promised_defaults import DEFAULTS
from support.promised_limits import LIMITS
from support.promised_tests import TESTS
from support.stand_ins import (
    ALL,
    DIGEST,
    GIVEN,
    Workshop,
    image_problems,
    lock_problems,
    target_problems,
    unnoticed_steps,
    workshop,
)

ROOT = Path(__file__).parents[2]
HOOK_FILES = ("a.py", "a.sh", "docker/Dockerfile", "a.toml", "a.yaml", "contracts/a.py", "tests/instance/a.py", "pyproject.toml", "scripts/dashboards.py")  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as found:
        yield found


def workflow(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return document


def test_the_definitions_are_what_is_promised() -> None:
    """Workflows, hooks and the configuration of the tools state what `support.promises` does, and nothing else."""
    assert list(differences(stated(definition_files(repository())), promises.DEFINITIONS)) == []


@pytest.mark.slow
def test_limits_and_defaults_are_what_is_promised() -> None:
    """Every number of a module, every default of a setting, an option, a parameter or a DAG."""
    assert list(differences(defaults(source_files()), DEFAULTS)) == []


def test_what_runs_is_what_is_promised() -> None:
    """Every value in the files of images, containers, pods, alerts and the proxy."""
    assert list(differences(limits(running_files()), LIMITS)) == []


def test_no_file_takes_precedence_over_the_configuration() -> None:
    """A pytest.ini, a GNUmakefile or the like would be read instead of what is promised."""
    assert [path for path in repository() if OVERRIDING.search(path)] == []


def test_no_check_is_switched_off_for_a_whole_file_and_no_test_is_skipped() -> None:
    """A suppression stands on its line with its reason; every test that is collected runs, and may fail."""
    assert switched_off(repository()) == promises.SWITCHED_OFF


def test_there_are_as_many_tests_as_promised() -> None:
    """A file of tests that is new, gone, moved or shorter is a change of `support.promised_tests`, too."""
    assert list(too_few(count_tests(repository()), TESTS)) == []


def test_no_plugin_of_pytest_is_installed_that_is_not_known() -> None:
    """What a package brings along can leave out or change any test."""
    assert {each.name for each in entry_points(group="pytest11")} == promises.PLUGINS


def test_the_code_that_decides_is_mutated() -> None:
    """None of it is taken out of mutation testing."""
    listed = re.search(r"^only_mutate = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert listed
    assert set(re.findall(r'^ +"([^"]+)"', listed[1], re.MULTILINE)) >= promises.MUTATED


def test_every_profile_generates_as_many_examples_as_promised() -> None:
    """Fewer would find less, and none would find nothing."""
    assert {name: settings.get_profile(name).max_examples for name in promises.HYPOTHESIS} == promises.HYPOTHESIS
    for name in ("thorough", "quick"):
        profile = settings.get_profile(name)
        assert set(profile.phases) == set(Phase)
        # Where the variable CI is set, Hypothesis leaves this one out itself: it judges the machine.
        assert set(profile.suppress_health_check) <= {HealthCheck.too_slow}
    loaded = re.findall(r'load_profile\("(\w+)"\)', (ROOT / "tests/conftest.py").read_text())
    assert loaded == list(promises.HYPOTHESIS)[:1]


def test_no_file_can_take_the_place_of_a_target() -> None:
    """Every target is phony, so that no file of its name makes it up to date; no makefile is read that may be missing."""
    texts = [(ROOT / path).read_text() for path in Workshop.texts() if not path.startswith("scripts/")]
    targets = [name for text in texts for name in re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE)]
    assert sorted(targets) == sorted(
        name for text in texts for name in re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    )
    assert [line for text in texts for line in re.findall(r"^.*include .*$", text, re.MULTILINE)] == [
        "include make/shipping.mk"
    ]


def test_each_target_needs_what_is_promised() -> None:
    """No check runs in an environment of yesterday's lock, and no test on a wheel of yesterday's code."""
    makefiles = {path: text for path, text in Workshop.texts().items() if not path.startswith("scripts/")}
    assert list(differences(prerequisites(makefiles), promises.PREREQUISITES)) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", promises.TARGETS)
def test_a_target_runs_what_is_promised_and_fails_if_any_of_it_fails(shop: Workshop, target: str) -> None:
    """With these arguments and variables, in this order; no failure of a single command is lost."""
    assert target_problems(shop, target, promises.TARGETS[target]) == []


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("test", []),
        ("unit-coverage", ["", ".integration-most.host.1.x", ".other"]),
        ("integration", ["", ".unit.host.1.x", ".other"]),
    ],
)
def test_a_target_counts_the_coverage_of_its_own_run_only(shop: Workshop, target: str, kept: list[str]) -> None:
    """What an earlier run left is gone before the first test, whatever part of it is run or fails later."""
    names = ("", ".unit.host.1.x", ".integration-most.host.1.x", ".other")
    for name in names:
        (shop.folder / f".coverage{name}").touch()
    failing = ALL if target == "test" else shop.make(target).calls[-1].line
    for name in names:
        (shop.folder / f".coverage{name}").touch()
    assert shop.make(target, failing=failing).status != 0
    assert [name for name in names if (shop.folder / f".coverage{name}").exists()] == kept


def test_the_image_that_is_attested_is_the_one_in_the_repository(shop: Workshop) -> None:
    """By the digest that its registry reported, not that of another one, and not by a tag."""
    assert image_problems(shop) == []


def test_a_lock_that_does_not_follow_the_requirements_stops_a_commit(shop: Workshop) -> None:
    """It is compiled again, and has to be looked at: also if that worked. One that follows them is left as it is."""
    assert lock_problems(shop) == []


@pytest.mark.slow
def test_every_instance_of_the_repository_is_checked() -> None:
    """The folder `contracts` and every other one of the root whose name begins so and that has a `features.py`."""
    found = ["contracts", "contracts_churn"]
    checks = [f"CTCD_CONTRACTS={folder} ctcd contract lock --check" for folder in found]
    with workshop({"contracts_churn/features.py": "", "contracts_notes/README.md": ""}) as shop:
        assert shop.make("locks").shown() == checks
        for failing in checks:
            ran = shop.make("locks", failing=failing.partition(" ")[2])
            assert ran.status != 0
            assert ran.shown() == checks
        assert f"ruff check src {' '.join(found)} dags" in shop.make("lint").shown()[0]
        assert (
            shop.make("contracts", CTCD_CONTRACTS="contracts_churn").shown()[1].startswith("INSTANCE=contracts_churn ")
        )
        (shop.folder / "bin" / "python3").unlink()  # it runs as it is
        assert shop.make("instances").output.splitlines()[-1] == f"instances={json.dumps(found)}"


def test_make_unit_prints_how_long_it_took(shop: Workshop) -> None:
    """To compare with the time in CONTRIBUTING.md; processor time does not depend on what else runs."""
    assert re.search(r"^make unit: \d+ seconds, \d+ of processor time$", shop.make("unit").output, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", promises.WORKFLOWS)
def test_a_step_fails_if_what_it_calls_fails(shop: Workshop, name: str) -> None:
    """Run with the shell, the variables and the leniency that workflow, job and step ask for."""
    assert unnoticed_steps(shop, workflow(name)) == []


@pytest.mark.slow
def test_a_step_passes_if_what_it_calls_passes(shop: Workshop) -> None:
    """The stand-ins are no reason for a step to fail."""
    document = workflow("ci.yml")
    for job in document["jobs"].values():
        for step in job.get("steps") or ():
            # It copies a file that `make demo` writes.
            if step.get("run", "").startswith("make ") and step["run"] != "make demo-summary":
                ran = shop.step(step, document, job, **GIVEN, NEEDED="VERSION")
                assert ran.status == 0, (step["run"], ran.output)


@pytest.mark.parametrize("given", ["abc", "0" * 40, ""])
def test_the_contract_is_compared_with_the_base(shop: Workshop, given: str) -> None:
    """A first push, whose base is all zeros, and a terminal compare with the last commit."""
    ran = shop.make("contract-diff", **({"BASE": given} if given else {}))
    assert ran.shown() == [f"ctcd contract diff {given if given == 'abc' else 'HEAD'} --markdown"]


@pytest.mark.parametrize("variable", ["PROMOTE", "IMAGE_ONLY"])
@pytest.mark.parametrize("value", [None, "", "false", "False", "no", "1", "truefalse"])
def test_only_true_switches_something_on(shop: Workshop, variable: str, value: str | None) -> None:
    """Without the variable, and with any other value, a deployment promotes nothing and a rollback is whole."""
    target, option = {"PROMOTE": ("deploy", "--promote"), "IMAGE_ONLY": ("rollback", "--image-only")}[variable]
    [call] = shop.make(target, **GIVEN, **({} if value is None else {variable: value})).shown()
    assert option not in call.split()
    [call] = shop.make(target, **GIVEN, **{variable: "true"}).shown()
    assert option in call.split()


@pytest.mark.parametrize(("name", "environment"), promises.SHIPPED)
def test_each_environment_gets_the_arguments_that_are_promised(shop: Workshop, name: str, environment: str) -> None:
    """From the inputs of the calling workflow to the command that `make` runs."""
    context: dict[str, Any] = {
        "inputs.environment": environment,
        "inputs.version": "7",
        "inputs.reason": "slow",
        "github.run_id": "5",
        "github.workflow": name,
        "needs.threshold.outputs.version": "7",
        "needs.image.outputs.image": DIGEST,
        "vars.DEPLOY_TARGET": "compose",
        "vars.IMAGE_REPOSITORY": "registry.example/api",
    }
    deploy = workflow("deploy.yml")
    called, job = workflow(f"{name}.yml")["jobs"][environment if name == "release" else name], deploy["jobs"]["deploy"]
    inputs = {each: value.get("default", "") for each, value in deploy[True]["workflow_call"]["inputs"].items()}
    for each, value in (inputs | called["with"]).items():
        # Booleans stay what they are.
        context[f"inputs.{each}"] = value if isinstance(value, bool) else evaluated(value, context)
    calls = []
    for step in job["steps"]:
        if step.get("run") in ("make deploy", "make rollback") and evaluated(step["if"], context) == "true":
            env = {key: evaluated(value, context) for part in (job, step) for key, value in part["env"].items()}
            calls += [call.line for call in shop.step(step | {"env": env}, deploy, job).calls]
    without_summary = [re.sub(r" --summary \S+", "", line) for line in calls]
    assert without_summary == [promises.SHIPPED[name, environment].replace("{image}", DIGEST)]


@pytest.mark.slow
def test_every_hook_runs_and_stops_a_commit_if_its_tool_fails(shop: Workshop) -> None:
    """Each of them, on files of its kind; the real pre-commit runs them on stand-ins."""
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    ran = shop.hooks(text, HOOK_FILES, failing=ALL)
    assert ran.status == 1, ran.output
    hooks = yaml.safe_load(text)["repos"][0]["hooks"]
    assert re.findall(r"^(.*?)\.{3,}(.*)$", ran.output, re.MULTILINE) == [(hook["name"], "Failed") for hook in hooks]
