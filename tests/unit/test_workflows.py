"""The rules for workflows, on the workflows of this repository and on defects planted in them.

`tests/prove/in_process.py` plants the defects that matter most (WORKFLOWS, SHIPPING); here are the variants.
"""

from pathlib import Path

import pytest
from support.workflows import broken_rules, documented_targets, local_files

SUPPORT = Path(__file__).parents[1] / "support"
GOOD = (SUPPORT / "workflow.yml").read_text()
WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
SETUP, DEPLOY = "./.github/actions/setup", "./.github/workflows/deploy.yml"
SUMMED = '[ "$VERSIONS $CHECKS'
"""First words of the verdict of ci's required check."""


@pytest.mark.slow
def test_every_workflow_keeps_the_rules() -> None:
    """No workflow of this repository breaks a rule, with the actions and workflows that it uses."""
    targets = documented_targets()
    broken = {path.name: broken_rules(path.read_text(), targets) for path in sorted(WORKFLOWS.glob("*.y*ml"))}
    assert {name: problems for name, problems in broken.items() if problems} == {}


def test_a_workflow_that_keeps_the_rules_passes() -> None:
    """A workflow that keeps every rule has no problem reported."""
    assert broken_rules(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("permissions: {}\nconcurrency", "concurrency", "permissions at the top"),
        ("    permissions:\n      contents: read\n    steps:\n      - run: ctcd", "    steps:\n      - run: ctcd", "gate: perm"),
        ("01234567 # v5.0.0", "01234567", "no version"),
        ("persist-credentials: false", "fetch-depth: 0", "keeps its credentials"),
        ("concurrency:\n  group: example-${{ github.ref }}\n  cancel-in-progress: true\n", "", "concurrency"),
        ("- run: ctcd gate", "- run: ctcd gate || echo refused", "swallowed"),
        ("- run: ctcd gate", "- run: set +e; ctcd gate", "swallowed"),
        ("- run: ctcd gate", "- run: |\n          ctcd gate\n          exit 0", "swallowed"),
        ("    needs: [test]\n", "    needs: [test]\n    continue-on-error: true\n", "gate: continue-on-error"),
        ("    needs: [test]\n", "", "promote: does not need test"),
        ("test \"$RESULTS\" = \"success,success,success\"", "true", "ignores the results"),
        ("    environment: production\n    permissions:\n      contents: write # publishes the release\n", "    permissions: {}\n", None),
    ],
)  # fmt: skip
def test_each_broken_rule_is_reported(old: str, new: str, problem: str | None) -> None:
    """One change breaks one rule; a job that promotes has effects even without write access."""
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if problem == "ignores the results":
        text = text.replace("${{ join(needs.*.result, ',') }}", "all")
    if problem is None:
        text = text.replace("    needs: [gate]\n", "")
        problem = "promote: does not need gate"
    assert problem in "; ".join(broken_rules(text))


def test_a_command_that_swallows_no_failure_passes() -> None:
    """A quoted pipe or word is not a command, and a pipe in bash keeps its exit code."""
    for run in ("grep 'a|b' file", 'grep "x || true" file', "make a || make b"):
        assert broken_rules(GOOD.replace("make test | tee test.log", run)) == []


@pytest.mark.parametrize(
    ("workflow", "old", "new", "problem"),
    [
        ("ci", SUMMED, 'true || [ "$VERSIONS $CHECKS', "although unit was failure"),
        ("release", "    if: ${{ inputs.environment == 'production' }}\n", "    if: ${{ !failure() && inputs.environment == 'production' }}\n", "production-deploy: runs even if"),
        ("release", "    if: ${{ inputs.environment == 'production' }}\n", "    if: ${{ needs.threshold.result != 'failure' }}\n", "production-deploy: runs even if"),
        ("release", "run: make push-image", "run: docker push $IMAGE_REPOSITORY:${{ inputs.version }}", "written into a command"),
        ("release", "run: make push-image", "run: docker push x", "image: calls no documented target: 'docker push x'"),
        ("release", "run: make sbom", "run: make no-such-target", "calls no documented target"),
        ("release", "      promote: true\n    permissions:\n      contents: read # to check the code out\n      packages: read # the host pulls the image with the token of this run\n    secrets:\n", "      promote: true\n    permissions:\n      contents: read # to check the code out\n      packages: read # the host pulls the image with the token of this run\n    secrets: inherit\n    x:\n", "production: hands on secrets by 'inherit'"),
        ("rollback", "      API_KEYS: ${{ secrets.API_KEYS }}\n", "", "rollback: does not hand on API_KEYS"),
        ("rollback", "      rollback: true\n", "", "rollback-deploy: ships a version that no gate has passed"),
        ("rollback", "/deploy.yml\n", "/deployment.yml\n", "./.github/workflows/deployment.yml does not exist"),
        ("train", "      SERVICE_STORE_URL: ${{ secrets.SERVICE_STORE_URL }}\n", "", "release: does not hand on SERVICE_STORE_URL"),
        ("train", "    needs: train\n", "    needs: configured\n", "release-production-deploy: does not need train"),
        ("train", "    needs: train\n", "    needs: train\n    if: ${{ always() }}\n", "release-image: runs even if"),
        ("load", "&& needs.load.result == 'failure' &&", "&& needs.load.result == 'success' &&", "runs on results that are no failure"),
        ("load", "      issues: write # opens or updates the one issue about it\n", "      contents: write # pushes\n", "report: runs even if"),
        ("train", "    needs: configured\n", "    needs: configured\n    continue-on-error: true\n", "train: continue-on-error"),
        ("train", "      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2\n        with:\n          persist-credentials: false\n      - uses: ./", "      - uses: ./", "train: ./.github/actions/setup is used before the checkout"),
    ],
)  # fmt: skip
def test_a_defect_planted_in_a_workflow_is_reported(workflow: str, old: str, new: str, problem: str) -> None:
    """A change of a workflow of this repository breaks a rule that it kept before."""
    text = (WORKFLOWS / f"{workflow}.yml").read_text()
    assert text.count(old) == 1
    assert problem in "; ".join(broken_rules(text.replace(old, new), documented_targets()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workflow", "file", "old", "new", "problem"),
    [
        ("ci", SETUP, "setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0", "setup-python@v5", "checks: actions/setup-python@v5 is not pinned"),
        ("release", SETUP, "@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0", "@a26af69be951a213d495a4c3e4e4022e16d87065", "no version in a comment"),
        ("release", SETUP, "github.event_name == 'pull_request' }}", "github.event_name == 'pull_request' || true }}", "threshold: a cache outside pull requests"),
        ("security", SETUP, "        python-version: ${{ inputs.python-version }}\n    - if", "        cache: pip\n    - if", "secrets: a cache outside pull requests"),
        ("deploy", SETUP, "  steps:\n", "  steps:\n    - {shell: bash, run: 'make install || true'}\n", "deploy: a failure is swallowed"),
        ("train", SETUP, "  steps:\n", "  steps:\n    - {shell: bash, run: 'pip install ${{ inputs.python-version }}'}\n", "train: an expression is written into a command"),
        ("train", SETUP, "  steps:\n", "  steps:\n    - {shell: bash, run: 'pip install uv'}\n", "train: calls no documented target: 'pip install uv'"),
        ("release", DEPLOY, "    runs-on: ubuntu-24.04\n", "    if: ${{ always() }}\n    runs-on: ubuntu-24.04\n", "production-deploy: runs even if"),
        ("train", DEPLOY, "IMAGE: ${{ inputs.image }}", "IMAGE: ${{ inputs.version }}", "release-staging-deploy: deploys ${{ needs.release-threshold.outputs.version }}"),
        ("rollback", DEPLOY, "        if: ${{ !inputs.rollback }}\n", "", "rollback-deploy: ships a version that no gate has passed"),
    ],
)  # fmt: skip
def test_a_defect_planted_in_a_shared_file_is_reported(
    workflow: str, file: str, old: str, new: str, problem: str
) -> None:
    """A change of the composite action or the reusable workflow breaks a rule in the workflow that uses it."""
    shared = local_files()
    assert shared[file].count(old) == 1
    shared[file] = shared[file].replace(old, new)
    text = (WORKFLOWS / f"{workflow}.yml").read_text()
    assert problem in "; ".join(broken_rules(text, documented_targets(), shared))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("run: make rollback", "run: make rollback REASON=\"${{ inputs.reason }}\"", "written into a command"),
        ("run: make deploy\n", "run: make deploy\n        continue-on-error: true\n", "deploy: continue-on-error"),
        ("      packages: read # the host pulls the image with the token of this run\n", "      packages: write\n", "packages: write without a reason"),
        ("    timeout-minutes: 30\n", "", "deploy: no timeout-minutes"),
    ],
)  # fmt: skip
def test_a_defect_planted_in_the_reusable_workflow_is_reported(old: str, new: str, problem: str) -> None:
    """The workflow that deploys is held to the rules for its own steps, too."""
    text = local_files()[DEPLOY]
    assert text.count(old) == 1
    assert problem in "; ".join(broken_rules(text.replace(old, new), documented_targets()))


@pytest.mark.parametrize("job", ["staging", "production"])
@pytest.mark.parametrize(
    "image", ["${{ vars.IMAGE_REPOSITORY }}:v${{ needs.threshold.outputs.version }}", "${{ inputs.image }}", "${{ needs.threshold.outputs.version }}"]
)  # fmt: skip
def test_a_deployment_of_anything_but_the_pushed_digest_is_reported(job: str, image: str) -> None:
    """A tag, an input or another job's output in place of the digest is reported for each job that deploys."""
    before, found, after = (WORKFLOWS / "release.yml").read_text().partition(f"\n  {job}:\n")
    assert found
    planted = after.replace("${{ needs.image.outputs.image }}", image, 1)
    assert planted != after
    assert f"{job}-deploy: deploys {image}" in "; ".join(broken_rules(before + found + planted, documented_targets()))
