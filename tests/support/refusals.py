"""How what stands in the files differs from what is promised, as text for whoever has made a change; "" if it does not.

Each text ends with what to do if the change is meant.
"""

from collections.abc import Iterable, Mapping

from support import definitions, promises
from support.promised_defaults import DEFAULTS
from support.promised_limits import LIMITS
from support.promised_scripts import SCRIPTS
from support.promised_tests import DEFECTS, TESTS
from support.stand_ins import Workshop, script_problems, target_problems

Files = Mapping[str, str]


def meant(problems: Iterable[str], promised: str, file: str = "promises") -> str:
    """Return problems, one on each line, and where to state the change if it is meant; "" without problems.

    Args:
        problems: what differs.
        promised: name of what is promised, in `file`.
        file: module below `tests/support`.
    """
    found = list(problems)
    advice = (
        f"If this change is meant, state it in {promised} of tests/support/{file}.py, too, in the same commit: add what is"
        " not promised, delete what is missing, correct what differs, and give the reason in a comment beside it."
    )
    return "\n".join([*found, advice]) if found else ""


def of_definitions(files: Files) -> str:
    """Compare workflows, hooks, configuration and what changes every test."""
    found = definitions.stated(definitions.definition_files(files))
    return meant(definitions.differences(found, promises.DEFINITIONS), "DEFINITIONS")


def of_defaults(files: Files) -> str:
    """Compare the limits and defaults of modules."""
    return meant(definitions.differences(definitions.defaults(files), DEFAULTS), "DEFAULTS", "promised_defaults")


def of_limits(files: Files) -> str:
    """Compare the files that say how images, containers and pods run."""
    return meant(definitions.differences(definitions.limits(files), LIMITS), "LIMITS", "promised_limits")


def of_prerequisites(makefiles: Files) -> str:
    """Compare what each target of make needs."""
    found = definitions.prerequisites(makefiles)
    return meant(definitions.differences(found, promises.PREREQUISITES), "PREREQUISITES")


def of_asked(files: Files) -> str:
    """Compare the variables by which whoever runs makefiles and scripts can change what they do."""
    return meant(definitions.differences(definitions.asked(files), promises.ASKED), "ASKED")


def of_switches(files: Files) -> str:
    """Compare the modules that switch a check off, or keep a test from running."""
    return meant(definitions.differences(definitions.switched_off(files), promises.SWITCHED_OFF), "SWITCHED_OFF")


def of_tests(files: Files) -> str:
    """Compare how many tests there are in each file."""
    return meant(definitions.too_few(definitions.count_tests(files), TESTS), "_BY_FOLDER", "promised_tests")


def of_idle_tests(files: Files) -> str:
    """Look for tests that check nothing."""
    return "\n".join(f"{each} checks nothing: assert what it is about" for each in definitions.idle_tests(files))


def of_defects(planted: Mapping[str, int]) -> str:
    """Compare how many defects are planted in each area."""
    return meant(definitions.too_few(planted, DEFECTS), "_ALL and _QUICK", "promised_tests")


def of_target(shop: Workshop, target: str) -> str:
    """Compare what a target of make runs, and look for failures that it overlooks."""
    return meant(target_problems(shop, target, promises.TARGETS[target]), "TARGETS")


def of_script(situation: str, texts: Files) -> str:
    """Compare what a script calls in a situation, and which failures it overlooks."""
    promised = SCRIPTS[situation]
    return meant(script_problems(promised, texts[promised.script]), "SCRIPTS", "promised_scripts")
