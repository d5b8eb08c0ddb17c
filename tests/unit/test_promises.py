"""The definitions of the gates are what `support.promises` says, and each of them fails if what it runs fails."""

import json
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, settings
from support import promises, refusals
from support.definitions import OVERRIDING, differences, evaluated, repository, running_files, source_files
from support.promised_scripts import SCRIPTS
from support.refusals import meant
from support.stand_ins import (
    ABSOLUTE,
    ALL,
    DIGEST,
    EXPORTED,
    GIVEN,
    Folder,
    Workshop,
    image_problems,
    leftover_problems,
    lock_problems,
    requirement_problems,
    script_texts,
    secret_problems,
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


def hold(refusal: str) -> None:
    """Fail with the whole text of a refusal, which pytest would cut in a comparison."""
    assert not refusal, refusal


@pytest.mark.slow
def test_the_definitions_are_what_is_promised() -> None:
    """Workflows, hooks and the configuration of the tools state what `support.promises` does, and nothing else."""
    hold(refusals.of_definitions(repository()))


@pytest.mark.slow
def test_limits_and_defaults_are_what_is_promised() -> None:
    """Every number of a module, every default of a setting, an option, a parameter or a DAG."""
    hold(refusals.of_defaults(source_files()))


def test_what_runs_is_what_is_promised() -> None:
    """Every value in the files of images, containers, pods, alerts and the proxy."""
    hold(refusals.of_limits(running_files()))


def test_no_file_takes_precedence_over_the_configuration() -> None:
    """A pytest.ini, a GNUmakefile or the like would be read instead of what is promised."""
    assert [path for path in repository() if OVERRIDING.search(path)] == []


@pytest.mark.slow
def test_no_check_is_switched_off_for_a_whole_file_and_no_test_is_skipped() -> None:
    """A suppression stands on its line with its reason; every test that is collected runs, and may fail."""
    hold(refusals.of_switches(repository()))


@pytest.mark.slow
def test_there_are_as_many_tests_as_promised() -> None:
    """A file of tests that is new, gone, moved or shorter is a change of `support.promised_tests`, too."""
    hold(refusals.of_tests(repository()))


@pytest.mark.slow
def test_every_test_checks_something() -> None:
    """A test whose body is empty, returns at once or asserts what is always true would pass whatever it tests does."""
    hold(refusals.of_idle_tests(repository()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusal", "file"),
    [
        (
            lambda: refusals.of_definitions(repository() | {"conftest.py": "import os\nos.environ.clear()\n"}),
            "promises",
        ),
        (lambda: refusals.of_defaults({"settings.py": "LONGEST = 7\n"}), "promised_defaults"),
        (lambda: refusals.of_limits({"deploy/more.yaml": "port: 1\n"}), "promised_limits"),
        (lambda: refusals.of_prerequisites({"Makefile": "lint: more\n"}), "promises"),
        (lambda: refusals.of_asked({"Makefile": "lint:\n\t@ruff $(MORE)\n"}), "promises"),
        (lambda: refusals.of_switches({}), "promises"),
        (
            lambda: refusals.of_tests(repository() | {"tests/unit/test_more.py": "def test_all() -> None: ...\n"}),
            "promised_tests",
        ),
        (lambda: refusals.of_defects({}), "promised_tests"),
        (lambda: refusals.of_script("java is there", {"scripts/ensure-java.sh": "#!/bin/sh\n"}), "promised_scripts"),
    ],
)
def test_a_refusal_says_where_an_honest_change_is_stated(refusal: Callable[[], str], file: str) -> None:
    """Its last line names the file, which exists, and in it the name of what is promised."""
    *found, advice = refusal().splitlines()
    assert found
    named = re.search(r"state it in (.+) of (tests/support/\w+\.py), too", advice)
    assert named
    assert named[2] == f"tests/support/{file}.py"
    text = (ROOT / named[2]).read_text(encoding="utf-8")
    assert all(re.search(rf"^{name}\b", text, re.MULTILINE) for name in named[1].split(" and "))


def test_no_plugin_of_pytest_is_installed_that_is_not_known() -> None:
    """What a package brings along can leave out or change any test."""
    hold(meant(sorted({each.name for each in entry_points(group="pytest11")} ^ promises.PLUGINS), "PLUGINS"))


def test_the_code_that_decides_is_mutated() -> None:
    """None of it is taken out of mutation testing."""
    listed = re.search(r"^only_mutate = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert listed
    hold(meant(sorted(promises.MUTATED - set(re.findall(r'^ +"([^"]+)"', listed[1], re.MULTILINE))), "MUTATED"))


def test_every_profile_generates_as_many_examples_as_promised() -> None:
    """Fewer would find less, and none would find nothing."""
    found = {name: settings.get_profile(name).max_examples for name in promises.HYPOTHESIS}
    hold(meant(differences(found, promises.HYPOTHESIS), "HYPOTHESIS"))
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
    hold(refusals.of_prerequisites(makefiles))


def test_nobody_can_change_what_runs_by_another_variable_than_is_promised() -> None:
    """No other variable of the environment, such as one that CI sets, has a say in what a target or a script does."""
    hold(refusals.of_asked(repository()))


def test_each_variable_that_a_target_asks_for_is_given_in_what_is_promised() -> None:
    """`TARGETS` has a target with it, so that it arrives; make and the shell set the rest."""
    given = {word.partition("=")[0] for target in promises.TARGETS for word in target.split() if "=" in word}
    files = ("Makefile", "make/shipping.mk", "scripts/continuous-training.sh")
    asked = {name for path in files for name in promises.ASKED[path].split()}
    assert asked - given - GIVEN.keys() - EXPORTED.keys() == {"CURDIR", "MAKE", "MAKEFILE_LIST", "PATH"}


@pytest.mark.slow
@pytest.mark.parametrize("target", promises.TARGETS)
def test_a_target_runs_what_is_promised_and_fails_if_any_of_it_fails(shop: Workshop, target: str) -> None:
    """With these arguments and variables, in this order; no failure of a single command is lost."""
    hold(refusals.of_target(shop, target))


def test_every_script_runs_as_it_is() -> None:
    """One that is a stand-in for the targets runs in a situation of its own, so that no edit of it is unseen."""
    assert {situation.script for situation in SCRIPTS.values()} == script_texts().keys()


def test_every_script_stops_at_its_first_failure() -> None:
    """Also a failure of a variable that is not set and, in bash, one within a pipe; the other shells have no such option."""
    for path in (*(ROOT / "scripts").glob("*.sh"), *(ROOT / "docker").rglob("*.sh")):
        shebang, *rest = path.read_text(encoding="utf-8").splitlines()
        first = next(line for line in rest if not line.startswith("#"))
        assert first == ("set -eu" if shebang == "#!/bin/sh" else "set -euo pipefail"), path.name


@pytest.mark.parametrize("script", ["install-server.sh Redis redis-server", "ensure-kubectl.sh tools"])
@pytest.mark.parametrize("signal", ["HUP", "INT", "TERM"])
def test_a_script_that_is_interrupted_leaves_nothing_behind(script: str, signal: str, tmp_path: Path) -> None:
    """Least of all the file with which no service of the machine would start any more."""
    folder, left = Folder(tmp_path), ("temporary", "usr/sbin")
    for path in (*left, "usr/share/keyrings"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "usr/share/keyrings/debian-archive-keyring.gpg").touch()
    folder.program("bin/kubectl", "#!/bin/sh\nexit 1\n")
    says = "case $* in *--print-uris*) echo \"'https://deb.example/debian/dists/a' a\"; exit;; esac"
    folder.program("bin/apt-get", f"#!/bin/sh\n{says}\nls {' '.join(left)} >found\nkill -{signal} $PPID\n")
    name, *arguments = script.split()
    text = (ROOT / "scripts" / name).read_text(encoding="utf-8")
    folder.program(f"scripts/{name}", ABSOLUTE.sub("", text))
    ran = folder.run(f"scripts/{name}", *arguments, TMPDIR=str(tmp_path / "temporary"))
    assert (tmp_path / "found").read_text().split() != [f"{path}:" for path in left]
    assert [each.name for path in left for each in (tmp_path / path).iterdir()] == []
    assert ran.status == 130


@pytest.mark.slow
@pytest.mark.parametrize("situation", SCRIPTS)
def test_a_script_calls_what_is_promised_and_fails_if_any_of_it_fails(situation: str) -> None:
    """On a machine that has what it looks for, and on one that does not; what may fail is listed there."""
    hold(refusals.of_script(situation, script_texts()))


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


@pytest.mark.slow
def test_a_lock_that_does_not_follow_the_requirements_stops_a_commit(shop: Workshop) -> None:
    """It is compiled again, and has to be looked at: also if that worked. One that follows them is left as it is."""
    assert lock_problems(shop) == []


@pytest.mark.slow
def test_each_requirement_that_changes_makes_the_locks_change() -> None:
    """Those of the package, of its extras and groups, and of each instance; and a lock that was edited by hand."""
    with workshop() as shop:  # of its own: every environment would be older than the requirements
        assert requirement_problems(shop) == []


def test_nothing_of_an_earlier_build_is_tested(shop: Workshop) -> None:
    """A module that was deleted is in no wheel, and in no folder of packages."""
    assert leftover_problems(shop) == []


def test_the_hook_looks_for_secrets_in_every_file_that_it_is_given(shop: Workshop) -> None:
    """As `make secrets` does in all of them."""
    assert secret_problems(shop) == []


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
    wanted = [promises.SHIPPED[name, environment].replace("{image}", DIGEST)]
    hold(meant(differences(without_summary, wanted), "SHIPPED"))


@pytest.mark.slow
def test_every_hook_runs_and_stops_a_commit_if_its_tool_fails(shop: Workshop) -> None:
    """Each of them, on files of its kind; the real pre-commit runs them on stand-ins."""
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    ran = shop.hooks(text, HOOK_FILES, failing=ALL)
    assert ran.status == 1, ran.output
    hooks = yaml.safe_load(text)["repos"][0]["hooks"]
    assert re.findall(r"^(.*?)\.{3,}(.*)$", ran.output, re.MULTILINE) == [(hook["name"], "Failed") for hook in hooks]
