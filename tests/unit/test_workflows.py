from pathlib import Path

import pytest
from support.workflows import broken_rules

SUPPORT = Path(__file__).parents[1] / "support"
GOOD = (SUPPORT / "workflow.yml").read_text()
WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def test_every_workflow_keeps_the_rules() -> None:
    """No workflow of this repository breaks a rule."""
    broken = {path.name: broken_rules(path.read_text()) for path in sorted(WORKFLOWS.glob("*.y*ml"))}
    assert {name: problems for name, problems in broken.items() if problems} == {}


def test_a_workflow_that_keeps_the_rules_passes() -> None:
    """The rules can be kept."""
    assert broken_rules(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("permissions: {}\nconcurrency", "permissions: write-all\nconcurrency", "permissions at the top"),
        ("permissions: {}\nconcurrency", "concurrency", "permissions at the top"),
        ("contents: write # publishes the release", "contents: write", "contents: write without a reason"),
        ("    permissions:\n      contents: read\n    steps:\n      - run: credit", "    steps:\n      - run: credit", "gate: perm"),
        ("@0123456789abcdef0123456789abcdef01234567 # v5.0.0", "@v5", "not pinned"),
        ("01234567 # v5.0.0", "01234567", "no version"),
        ("persist-credentials: false", "fetch-depth: 0", "keeps its credentials"),
        ("  pull_request:\n", "  pull_request_target:\n", "pull_request_target"),
        ("concurrency:\n  group: example-${{ github.ref }}\n  cancel-in-progress: true\n", "", "concurrency"),
        ("    timeout-minutes: 20\n    environment", "    environment", "promote: no timeout"),
        ("- run: credit-score gate", "- run: credit-score gate || true", "swallowed"),
        ("- run: credit-score gate", "- run: credit-score gate || echo refused", "swallowed"),
        ("- run: credit-score gate", "- run: set +e; credit-score gate", "swallowed"),
        ("- run: credit-score gate", "- run: |\n          credit-score gate\n          exit 0", "swallowed"),
        ("- run: credit-score gate", "- run: credit-score gate\n        continue-on-error: true", "gate: continue"),
        ("    needs: [test]\n", "    needs: [test]\n    continue-on-error: true\n", "gate: continue-on-error"),
        ("defaults:\n  run:\n    shell: bash\n", "", "pipe hides"),
        ("    needs: [gate]\n", "", "promote: does not need gate, test"),
        ("    needs: [test]\n", "", "promote: does not need test"),
        ("    needs: [gate]\n", "    needs: [gate]\n    if: always()\n", "runs even if"),
        ("test \"$RESULTS\" = \"success,success,success\"", "true", "does not look"),
        ("    environment: production\n    permissions:\n      contents: write # publishes the release\n", "    permissions: {}\n", None),
    ],
)  # fmt: skip
def test_each_rule_is_noticed_when_it_is_broken(old: str, new: str, told: str | None) -> None:
    """One change, one broken rule; a job without write access that promotes is one that changes the world too."""
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if told == "does not look":
        text = text.replace("${{ join(needs.*.result, ',') }}", "all")
    if told is None:
        text = text.replace("    needs: [gate]\n", "")
        told = "promote: does not need gate"
    assert told in "; ".join(broken_rules(text))


def test_what_is_no_failure_swallowed_is_let_through() -> None:
    """A quoted pipe or word is no command, and a pipe in bash keeps its exit code."""
    for run in ("grep 'a|b' file", 'grep "x || true" file', "make a || make b"):
        assert broken_rules(GOOD.replace("credit-score gate", run)) == []
