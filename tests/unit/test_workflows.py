from pathlib import Path

import pytest
from support.workflows import broken_rules, documented_targets

SUPPORT = Path(__file__).parents[1] / "support"
GOOD = (SUPPORT / "workflow.yml").read_text()
WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
SUMMED = '[ "$VERSIONS $CHECKS'
"""How the required check of ci begins its verdict."""


def test_every_workflow_keeps_the_rules() -> None:
    """No workflow of this repository breaks a rule."""
    targets = documented_targets()
    broken = {path.name: broken_rules(path.read_text(), targets) for path in sorted(WORKFLOWS.glob("*.y*ml"))}
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
        ("- run: ctcd gate", "- run: ctcd gate || true", "swallowed"),
        ("- run: ctcd gate", "- run: ctcd gate || echo refused", "swallowed"),
        ("- run: ctcd gate", "- run: set +e; ctcd gate", "swallowed"),
        ("- run: ctcd gate", "- run: |\n          ctcd gate\n          exit 0", "swallowed"),
        ("- run: ctcd gate", "- run: ctcd gate\n        continue-on-error: true", "gate: continue"),
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
        assert broken_rules(GOOD.replace("make test | tee test.log", run)) == []


@pytest.mark.parametrize(
    ("workflow", "old", "new", "told"),
    [
        ("ci", "needs: [versions, checks,", "needs: [versions,", "required: sums up without checks"),
        ("ci", SUMMED, '[[ ! "$VERSIONS $CHECKS $UNIT $TEST $DEMO $IMAGES" =~ failure|cancelled ]] || exit 1; true || [ "$VERSIONS $CHECKS', "although checks was skipped"),
        ("ci", SUMMED, 'true || [ "$VERSIONS $CHECKS', "although unit was failure"),
        ("release", "        run: make judge\n", "        run: make judge\n        continue-on-error: true\n", "threshold: continue-on-error"),
        ("release", "    needs: threshold\n", "    needs: configured\n", "image: ships a version that no gate has passed"),
        ("release", "    needs: threshold\n", "    needs: threshold\n    if: ${{ always() }}\n", "image: runs even if"),
        ("release", "    if: ${{ inputs.environment == 'production' }}\n", "    if: ${{ !failure() && inputs.environment == 'production' }}\n", "production: runs even if"),
        ("release", "    if: ${{ inputs.environment == 'production' }}\n", "    if: ${{ needs.threshold.result != 'failure' }}\n", "production: runs even if"),
        ("release", "    needs: [threshold, image, verify, staging]\n", "    needs: [image]\n", "production: deploys an image that was not verified"),
        ("release", "run: make push-image", "run: docker push $IMAGE_REPOSITORY:${{ inputs.version }}", "written into a command"),
        ("release", "run: make push-image", "run: docker push x", "image: calls no documented target: 'docker push x'"),
        ("release", "run: make sbom", "run: make no-such-target", "calls no documented target"),
        ("rollback", "run: make unship", "run: make unship REASON=\"${{ inputs.reason }}\"", "written into a command"),
        ("load", "&& needs.load.result == 'failure' &&", "&& needs.load.result == 'success' &&", "runs on results that are no failure"),
        ("load", "      issues: write # opens or updates the one issue about it\n", "      contents: write # pushes\n", "report: runs even if"),
        ("train", "    needs: configured\n", "    needs: configured\n    continue-on-error: true\n", "train: continue-on-error"),
        ("security", "          python-version: \"3.11\"\n      - run: make secrets", "          cache: pip\n      - run: make secrets", "cache outside"),
    ],
)  # fmt: skip
def test_what_reviews_have_caught_is_caught(workflow: str, old: str, new: str, told: str) -> None:
    """A defect planted in a workflow of ours breaks a rule that it kept before."""
    text = (WORKFLOWS / f"{workflow}.yml").read_text()
    assert text.count(old) == 1
    assert told in "; ".join(broken_rules(text.replace(old, new), documented_targets()))


@pytest.mark.parametrize("job", ["staging", "production"])
@pytest.mark.parametrize(
    "image", ["${{ vars.IMAGE_REPOSITORY }}:v${{ needs.threshold.outputs.version }}", "${{ inputs.image }}", "${{ needs.threshold.outputs.version }}"]
)  # fmt: skip
def test_a_deployment_of_anything_but_the_pushed_digest_is_caught(job: str, image: str) -> None:
    """A tag, an input or another job's output in place of the digest is noticed in each job that deploys."""
    before, found, after = (WORKFLOWS / "release.yml").read_text().partition(f"\n  {job}:\n")
    assert found
    planted = after.replace("${{ needs.image.outputs.image }}", image, 1)
    assert planted != after
    assert f"{job}: deploys {image}" in "; ".join(broken_rules(before + found + planted, documented_targets()))
