"""Which tests the coverage is measured in: measuring takes up to two thirds as long again."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
INTEGRATION = (
    "deployment",
    "scoring",
    "serving/test_connections.py",
    "store",
    "training/test_tracking.py",
)
"""Files and folders of integration tests that are measured: nearly all that others run is run by these or by unit tests."""
NOT_UNIT = (
    "contract/test_derived_forms.py",
    "contract/test_files.py",
    "contract/test_validation.py",
    "deployment/test_scripts.py",
    "drafts/test_general_tests.py",
    "model/test_metrics.py",
    "promotion/test_bootstrap.py",
    "prove",
    "serving/test_access.py",
    "serving/test_agreement_of_routes.py",
    "serving/test_batch.py",
    "serving/test_durability.py",
    "serving/test_log_agreement.py",
    "serving/test_service.py",
    "serving/test_service_levels.py",
    "store/test_conversion.py",
    "store/test_counts.py",
    "store/test_migrations.py",
    "test_architecture.py",
    "test_compose.py",
    "test_documents.py",
    "test_errors.py",
    "test_promises.py",
    "test_secrets.py",
    "test_synthetic.py",
    "test_workflows.py",
    "training/test_split.py",
    "training/test_trial.py",
)
"""Files and folders of unit tests that are not: nearly all that they run is run by others, too."""


def is_measured(path: Path) -> bool:
    """Return whether the coverage of the tests in a file is measured."""
    measured = any(path.is_relative_to(TESTS / "integration" / name) for name in INTEGRATION)
    left_out = any(path.is_relative_to(TESTS / "unit" / name) for name in NOT_UNIT)
    return measured or (path.is_relative_to(TESTS / "unit") and not left_out)
