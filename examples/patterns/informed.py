"""The contract of the second model of a chain: the columns of the first one, and its answer."""

from dataclasses import replace

from pandera.typing import Series

from ctcd.contract import Contract, Simulate, column


def column_of(contract: Contract) -> str:
    """Return the name of the column with the answer of the first model."""
    return f"predicted_{contract.label.name}"


def informed(contract: Contract) -> Contract:
    """Return a contract with one more column, which allows the classes of `contract` and no other value.

    If the classes of the first model change, the contract no longer fits, and the chain does not start.
    """
    name, classes = column_of(contract), contract.classes
    answer = column(
        meaning=f"answer of the model {contract.name}",
        unit="1",
        categories=classes,
        example=classes[0],
        simulate=Simulate(shares=dict.fromkeys(classes, 1.0), signal=0.7),
    )
    rows = type("Informed", (contract.features,), {"__annotations__": {name: Series[str]}, name: answer})
    return replace(contract, name=f"{contract.name}_informed", features=rows)
