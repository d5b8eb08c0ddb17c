"""The data contract of the tests: monthly readings of machines, whose condition is predicted."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from ctcd.contract import Contract, ListOf, Role, Simulate, column

MAX_NUMBER = 2**31 - 1
"""Largest reading or machine number: 32 bits fit into every store and client."""

PARTS = ListOf(
    items=("bearing", "drive-shaft", "fan belt", "oil pump", "unnamed"),
    empty="None",
    counted_by="num_parts",
)


class ReadingKey(pa.DataFrameModel):
    """The key of a monthly reading of a machine."""

    reading: Series[int] = column(
        role=Role.KEY,
        meaning="reading number, one for each machine and month",
        unit="1",
        minimum=1,
        maximum=MAX_NUMBER,
        example=70_001,
    )
    machine: Series[int] = column(
        role=Role.GROUP, meaning="machine number", unit="1", minimum=1, maximum=MAX_NUMBER, example=4_711
    )
    day: Series[pa.DateTime] = column(
        role=Role.EVENT_DATE, meaning="day of the reading", unit="ISO 8601 date", example="2025-01-01"
    )


class ReadingFeatures(ReadingKey):
    """The features of a machine in a month."""

    operator: Series[str] = column(
        role=Role.PERSONAL, meaning="operator's name", unit="1", max_length=100, nullable=True, example="Jane Doe"
    )
    hours: Series[int] = column(
        meaning="time in operation",
        unit="h",
        minimum=1,
        maximum=20_000,
        example=3_900,
        simulate=Simulate(quantiles=(100, 1_500, 3_500, 6_000, 9_900), signal=-0.3, varies="group", whole=True),
    )
    badge: Series[str] = column(
        role=Role.PERSONAL,
        meaning="operator's badge number",
        unit="1",
        max_length=20,
        nullable=True,
        example="B-0000",
    )
    maker: Series[str] = column(
        meaning="maker of the machine; new ones may appear",
        unit="1",
        pattern=r"[A-Za-z][A-Za-z _&/-]*",
        max_length=64,
        example="Acme",
        simulate=Simulate(
            shares={"Acme": 1.0, "Borealis": 1.0, "Cyclone": 1.0, "Delta_Works": 1.0, "Eastman & Sons": 1.0},
            varies="group",
        ),
    )
    power: Series[float] = column(
        meaning="rated power",
        unit="kW",
        minimum=1,
        maximum=1_000,
        example=20.5,
        simulate=Simulate(quantiles=(5, 15, 30, 60, 180), signal=0.35, varies="group"),
    )
    output: Series[float] = column(
        meaning="mean output in the month",
        unit="kW",
        minimum=0.1,
        maximum=1_000,
        example=16.4,
        simulate=Simulate(quantiles=(0.5, 0.75, 0.8, 0.85, 1.2), times="power", varies="group"),
    )
    num_parts: Series[int] = column(
        meaning="parts replaced so far",
        unit="parts",
        minimum=0,
        maximum=20,
        example=2,
        simulate=Simulate(quantiles=(0, 2, 3, 5, 9), signal=-0.4, varies="group", whole=True),
    )
    parts: Series[str] = column(
        meaning="kinds of the parts replaced, one entry for each",
        unit="1",
        max_length=512,
        list_of=PARTS,
        example="bearing,fan belt",
        simulate=Simulate(varies="group"),
    )
    vibration: Series[float] = column(
        meaning="mean vibration velocity",
        unit="mm/s",
        minimum=0,
        maximum=100,
        example=4.2,
        simulate=Simulate(quantiles=(0.5, 3, 6, 11, 34), signal=-0.7),
    )
    stops: Series[float] = column(
        meaning="unplanned stops in the month",
        unit="stops",
        minimum=0,
        maximum=100,
        example=3.0,
        simulate=Simulate(quantiles=(0, 1, 3, 6, 20), signal=-0.7, whole=True),
    )
    wear: Series[float] = column(
        meaning="wear of the tools; two thirds are new and have none",
        unit="%",
        minimum=0,
        maximum=100,
        example=12.5,
        simulate=Simulate(quantiles=(0, 5, 12, 30, 90), signal=-0.6, folded=True),
    )
    humidity: Series[float] = column(
        meaning="relative humidity of the hall; some halls have no sensor",
        unit="%",
        minimum=0,
        maximum=100,
        nullable=True,
        example=45.0,
        simulate=Simulate(quantiles=(5, 30, 45, 60, 95), signal=0.1, missing=0.02),
    )
    grade: Series[str] = column(
        meaning="inspector's grade of the upkeep",
        unit="1",
        categories=("High", "Fair", "Low"),
        example="Fair",
        simulate=Simulate(shares={"Low": 0.24, "Fair": 0.46, "High": 0.30}, signal=0.6, varies="group"),
    )
    shift: Series[str] = column(
        meaning="shift that used the machine most",
        unit="1",
        categories=("early_short", "early_long", "late_short", "late_long", "night"),
        nullable=True,
        example="early_long",
        simulate=Simulate(
            shares={
                "early_short": 0.25,
                "early_long": 0.2,
                "late_short": 0.2,
                "late_long": 0.2,
                "night": 0.15,
            },
            signal=0.15,
            missing=0.005,
        ),
    )

    @pa.dataframe_check(
        name="one_entry_per_part",
        description="parts has as many entries as num_parts says",
        error="one_entry_per_part",
    )
    def one_entry_per_part(cls, rows: pd.DataFrame) -> "pd.Series[bool]":
        """`parts` has as many entries as `num_parts` says."""
        text = rows["parts"]
        entries = (text.str.count(PARTS.separator) + 1).where(text != PARTS.empty, 0)
        return entries.eq(rows["num_parts"]).fillna(False)

    @pa.dataframe_check(
        name="output_agrees_with_power",
        description="output is between a tenth and twice power",
        error="output_agrees_with_power",
    )
    def output_agrees_with_power(cls, rows: pd.DataFrame) -> "pd.Series[bool]":
        """`output` and `power` have the same order of magnitude, unless a unit is wrong."""
        return (rows["output"] / rows["power"]).between(0.1, 2.0)


class ReadingCondition(ReadingKey):
    """The label of a machine in a month."""

    condition: Series[str] = column(
        role=Role.LABEL,
        meaning="condition of the machine",
        unit="1",
        categories=("failing", "worn", "sound"),
        example="worn",
        simulate=Simulate(shares={"failing": 0.290, "worn": 0.532, "sound": 0.178}, signal=0.98),
    )


CONTRACT = Contract(
    name="machine_condition",
    version="1.0.0",
    features=ReadingFeatures,
    labels=ReadingCondition,
    features_table="machine_readings",
    labels_table="machine_conditions",
    personal_table="machine_operators",
    snapshot_table="machine_readings_labelled",
    predictions_table="machine_predictions_log",
    snapshot_date="taken_on",
    max_quarantine_share=0.02,
)
