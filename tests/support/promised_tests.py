"""What is promised: how many tests and planted defects there are at least, literally.

A file of tests that goes, comes or gets shorter is then a change of two files, which a reviewer sees. Whoever adds tests to
a file may leave its number as it is.
"""

_BY_FOLDER: dict[str, dict[str, int]] = {
    "tests/airflow_workers": {
        "broker": 1, "killed_worker": 1,
    },
    "tests/alerts": {
        "alerts": 5,
    },
    "tests/broker": {
        "cache": 4, "consume": 12, "kinds": 3, "rabbitmq": 3, "workers": 1,
    },
    "tests/browser": {
        "form": 7, "kinds": 4, "reports": 2,
    },
    "tests/containers": {
        "airflow": 5, "airflow_docker_runner": 1, "api": 4, "contents": 7, "ct": 3, "deploy_compose": 9,
        "deploy_kubernetes": 4, "patterns": 1, "stack": 2, "trial": 2,
    },
    "tests/contracts": {
        "api": 6, "data": 4, "demo": 1, "migrations": 1, "policies": 8,
    },
    "tests/integration/cli": {
        "commands": 7, "completion": 3, "contract_change": 2, "marks": 2, "odd_home": 1, "one_connection": 1,
        "personal_data": 3, "real_defaults": 5, "streams": 7,
    },
    "tests/integration/contract": {
        "forms_of_contracts": 4,
    },
    "tests/integration/dags": {
        "deployment_dag": 5, "hook": 7, "import": 7, "pod": 6, "prepare": 2, "simple": 1, "stack": 1,
        "training_dag": 15,
    },
    "tests/integration/deployment": {
        "release": 24,
    },
    "tests/integration/monitoring": {
        "agreement": 2, "benchmark": 3, "data_monitor": 9, "findings": 3, "performance": 3,
    },
    "tests/integration/promotion": {
        "registry": 34, "traffic": 13,
    },
    "tests/integration/prove": {
        "tree": 4,
    },
    "tests/integration/scoring": {
        "scoring": 8,
    },
    "tests/integration/serving": {
        "bento_service": 10, "connections": 19, "faults": 6, "load_refusals": 1, "load_smoke": 1, "marks": 1,
        "openapi_fuzz": 1, "outbox_recovery": 8, "poller": 1, "shipping_process": 3, "supervision": 5, "swap": 7,
        "uploads": 1,
    },
    "tests/integration/store": {
        "engine": 7, "ingest": 7, "mariadb_support": 3, "migrations": 10, "predictions": 4, "refusals": 9,
        "retention": 9, "snapshot": 3, "upsert": 3,
    },
    "tests/integration/training": {
        "distributed": 6, "imports": 2, "tracking": 15, "train": 22,
    },
    "tests/patterns": {
        "patterns": 3,
    },
    "tests/spark": {
        "cluster": 6,
    },
    "tests/unit/adopt": {
        "adopt": 1, "updates": 2,
    },
    "tests/unit/cli": {
        "command_line": 23, "options": 3, "output": 9,
    },
    "tests/unit/contract": {
        "canonical": 4, "derived_forms": 6, "diff": 11, "duplicates": 2, "files": 3, "instance": 10, "lock": 6,
        "payload": 17, "rules": 7, "schemas": 7, "traffic": 13, "validation": 17,
    },
    "tests/unit/dags": {
        "container": 8, "dag_settings": 2, "dates": 5, "executors": 6, "notices": 2, "pod": 6, "stack": 4,
        "stage": 13,
    },
    "tests/unit/deployment": {
        "check": 1, "commands": 3, "compose_file": 3, "deployed_image": 7, "image": 2, "image_build": 3,
        "kubernetes": 8, "manifests": 2, "process": 10, "scripts": 19, "smoke": 7,
    },
    "tests/unit/drafts": {
        "check": 11, "columns": 24, "conformance": 4, "general_tests": 2, "init": 25, "source": 3,
    },
    "tests/unit/model": {
        "encoder": 16, "estimator": 11, "metrics": 7, "probes": 4, "pyfunc": 4, "reference": 8, "scorer": 13,
    },
    "tests/unit/monitoring": {
        "answering": 7, "checkpoint": 2, "data_monitor": 5, "drift": 25, "findings": 10, "floors": 9, "formulas": 14,
        "performance": 23, "periods": 4, "profiles": 5, "samples": 3, "site": 10, "tolerances": 5,
    },
    "tests/unit/promotion": {
        "bootstrap": 5, "decision": 46, "evaluation": 24, "evidence": 25, "policy": 9, "slices": 5,
    },
    "tests/unit/prove": {
        "catalogue": 6, "entry_points": 6, "runner": 5,
    },
    "tests/unit/registry": {
        "history": 2, "versions": 5,
    },
    "tests/unit/reports": {
        "reports": 6,
    },
    "tests/unit/scoring": {
        "files": 12, "replay": 11, "spark": 20, "store": 1,
    },
    "tests/unit/serving": {
        "access": 7, "agreement_of_routes": 2, "batch": 13, "batch_body": 10, "bento": 8, "cache": 18, "children": 6,
        "durability": 2, "following": 20, "idle": 4, "keys": 8, "launch": 7, "limits": 4, "log_agreement": 2,
        "loops": 4, "metrics": 4, "middleware": 4, "model": 4, "openapi": 6, "outbox": 32, "pages": 7,
        "predictor": 12, "problems": 12, "requests": 26, "routes": 6, "runtime": 2, "service": 13,
        "service_levels": 10, "shipper": 40, "traffic": 23, "uploads": 29,
    },
    "tests/unit/stages": {
        "audit": 9, "data": 5, "days": 5, "findings": 7, "handed_on": 3,
    },
    "tests/unit/store": {
        "conversion": 11, "counts": 2, "engine": 14, "ingest": 26, "migrations": 11, "predictions": 7, "retention": 8,
        "snapshot": 20, "sources": 14, "tables": 9, "upsert": 1, "warehouse": 13,
    },
    "tests/unit": {
        "architecture": 15, "benchmarks": 4, "compose": 22, "documents": 15, "errors": 6, "files": 8,
        "healthcheck": 3, "loopback": 7, "promises": 34, "secrets": 2, "settings": 26, "synthetic": 16, "workflows": 8,
    },
    "tests/unit/traffic": {
        "judging": 16, "observed": 8, "sequential": 8,
    },
    "tests/unit/training": {
        "fingerprint": 6, "grid": 9, "preprocess": 4, "search": 3, "split": 13, "trial": 14,
    },
    "tests/warehouse": {
        "bigquery": 8, "s3": 3,
    },
}  # fmt: skip
"""By folder and name, without `test_` and `.py`: the number of test functions."""

TESTS = {f"{folder}/test_{name}.py": number for folder, names in _BY_FOLDER.items() for name, number in names.items()}

_ALL = {"code": 259, "configuration": 61, "data": 34, "model": 21, "payload": 15, "service": 156, "workflow": 184}
_QUICK = {"code": 0, "configuration": 57, "data": 22, "model": 21, "payload": 5, "service": 4, "workflow": 175}
DEFECTS = _ALL | {f"quick {area}": number for area, number in _QUICK.items()}
"""By area: what `make prove` plants, and what of it `make test` does."""
