"""Random runs."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import strategies as st

from sealwax.training import preservation_policies as p
from sealwax.training.history import EPOCH, History, Step

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
START_NSECS = int((START - EPOCH).total_seconds()) * 10**9
VALUES = st.integers(-3, 3) | st.sampled_from([float("nan"), float("inf"), 0.5])
METRICS = st.none() | st.fixed_dictionaries({}, optional={"loss": VALUES, "acc": VALUES})


@st.composite
def histories(draw: st.DrawFn, metrics: st.SearchStrategy[Any] = METRICS) -> History:
    """A run whose times mostly ascend; steps may have the same one."""
    numbers = draw(st.lists(st.integers(0, 60), unique=True, max_size=12).map(sorted))
    seconds = draw(st.lists(st.integers(0, 100), min_size=len(numbers), max_size=len(numbers)))
    if draw(st.booleans()):
        seconds.sort()
    items = st.sets(st.sampled_from(["params", "opt_state", "data"]))
    return History(
        Step(
            step=number,
            time_nsecs=START_NSECS + second * 10**9,
            metrics=draw(metrics),
            items=frozenset(draw(items)),
        )
        for number, second in zip(numbers, seconds, strict=True)
    )


COUNTS = st.none() | st.integers(1, 6)
SIMPLE = (
    st.just(p.PreserveAll())
    | st.builds(p.LatestN, st.none() | st.integers(0, 6))
    | st.builds(p.EveryNSteps, st.integers(1, 20), st.booleans(), COUNTS)
    | st.builds(p.EveryNStepsClosest, st.integers(1, 20), COUNTS)
    | st.builds(p.EveryNSeconds, st.integers(0, 40))
    | st.builds(p.CustomSteps, st.frozensets(st.integers(0, 60)))
    | st.builds(p.LatestDuration, st.timedeltas(datetime.timedelta(0), datetime.timedelta(0, 90)))
    | st.builds(
        p.BestN,
        get_metric_fn=st.just("loss"),
        reverse=st.booleans(),
        n=st.none() | st.integers(0, 6),
        keep_checkpoints_without_metrics=st.booleans(),
    )
)
ITEMS = st.frozensets(st.sampled_from(["params", "opt_state", "data"]), min_size=1)
THINNING = st.builds(p.OnlyItems, ITEMS, SIMPLE)
POLICIES = SIMPLE | THINNING
