"""The page of a validation report, for data owners."""

from ctcd.contract.validation import ValidationReport
from ctcd.errors import number_of
from ctcd.html_report import Page, row_of


def validation_page(report: ValidationReport) -> Page:
    """Return the HTML page: one line per broken rule, with the first rows that break it."""
    broken = len(report.breaches)
    return Page(
        title=f"Validation: {report.where}",
        verdict=f"breaks {number_of(broken, 'rule')}" if broken else "satisfies the contract",
        good=not broken,
        facts=(
            ("data", report.where),
            ("rows", f"{report.rows:,}"),
            ("contract version", report.contract_version),
            ("rules broken", str(broken)),
        ),
        header=("column", "rule", "rows", "share", "first rows and values"),
        rows=tuple(
            row_of(
                breach.column or "(several)",
                breach.rule,
                f"{breach.count:,}" if breach.count else "",
                f"{breach.share:.3%}" if breach.count else "",
                "\n".join(example.text for example in breach.examples),
            )
            for breach in report.breaches
        ),
    )
