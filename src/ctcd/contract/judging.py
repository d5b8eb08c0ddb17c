"""The limits of a challenger on live requests, from `contracts/traffic.toml`."""

from typing import Annotated

from pydantic import Field

from ctcd.contract.policy_file import StrictModel


class Limits(StrictModel):
    """How much worse than the champion a challenger may be. Strict: a missing limit is an error.

    The bounds prevent limits so loose that no challenger would ever break them.
    """

    false_withdrawals: Annotated[
        float, Field(gt=0, le=0.1, description="probability that a challenger which keeps all limits is ever withdrawn")
    ]
    max_errors: Annotated[float, Field(gt=0, le=0.05, description="share of requests that it may fail to answer")]
    max_slowdown: Annotated[
        float, Field(gt=1, le=10, description="its median and 95th percentile of the answer time, as multiples")
    ]
    max_class_change: Annotated[float, Field(gt=0, le=0.5, description="most that the share of a class may differ")]
    max_disagreement: Annotated[
        float, Field(gt=0, lt=1, description="share of shadowed requests that it may answer with another class")
    ]
    max_accuracy_drop: Annotated[float, Field(gt=0, le=0.25, description="most that its accuracy may be lower")]
    min_hours: Annotated[float, Field(ge=0, le=744, description="hours that each step takes at least")]
    wait_for_labels: Annotated[bool, Field(description="whether a step lasts until the labels show its accuracy, too")]
    promote: Annotated[bool, Field(description="whether it is promoted after the last step, or that is recommended")]
