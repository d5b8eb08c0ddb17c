"""Loads what is released and holds it to the service contract: what the nightly workflow runs.

LOAD_SHAPE names the shape. LOAD_URL names a service that runs; without it, the image released of the champion is started
here, if MLFLOW_TRACKING_URI says where the registry is; without that, the service of this checkout.
"""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from load.__main__ import REFUSED
from load.__main__ import main as load
from typer import Exit

from credit_score import stages
from credit_score.cli.output import err, out, shown_progress
from credit_score.errors import CreditScoreError
from credit_score.settings import load_settings


def target() -> AbstractContextManager[str]:
    """Return what gives the URL of the service; empty: the load test starts one of its own."""
    url = os.environ.get("LOAD_URL", "")
    if url:
        return nullcontext(url)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        out.print("MLFLOW_TRACKING_URI is not set: the service of this checkout is loaded, not a released image")
        return nullcontext("")
    settings = load_settings()
    image = stages.released_image(settings)
    out.print(f"loading {image}", highlight=False, soft_wrap=True)
    if settings.feature_store_url.get_secret_value():
        stages.migrate(settings)
    return stages.tried(settings, image)


def main() -> int:
    """Run the load test and return its exit code."""
    with shown_progress():
        try:
            with target() as url:
                load(shape=os.environ.get("LOAD_SHAPE") or "reference", url=url, key=os.environ.get("LOAD_KEY", ""),
                     reports=Path("build/reports/load"), keep=False)  # fmt: skip
        except CreditScoreError as error:
            err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            return error.exit_code
        except Exit as ended:
            if ended.exit_code == REFUSED:
                with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
                    outputs.write("regression=true\n")
            return ended.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
