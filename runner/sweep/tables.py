"""Builds sweep.csv and sweep.parquet: one row per point and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from runner.sweep.summary import MetricId, Sweep, SweptPoint
from runner.verdict import MetricVerdict

# Prefixes that make a spreadsheet treat a cell as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = dict[str, Any]


def rows(sweep: Sweep) -> list[Row]:
    """Return one row per metric of every point; a point without metrics has one row."""
    return [
        {**_point_columns(sweep, point), **_metric_columns(sweep, name, metric)}
        for point in sweep.points
        for name, metric in (point.metrics.items() or [(None, None)])
    ]


def to_csv(table: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in table)
    return text.getvalue()


def to_parquet(table: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(table)), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _point_columns(sweep: Sweep, point: SweptPoint) -> Row:
    plan, tracked = point.plan, point.tracked
    return {
        "sweep": sweep.id,
        "point": point.number,
        **{axis.key: point.overrides.get(axis.key) for axis in sweep.axes},
        "overrides": " ".join(f"{key}={value}" for key, value in point.overrides.items()),
        "verdict": point.state,
        "exit_status": point.exit_status,
        "reason": point.reason,
        "model": plan.model if plan is not None else None,
        "evaluation_s": point.seconds("evaluate_s"),
        "engine_start_s": point.seconds("start_engine_s"),
        "output_tokens_per_s": point.per_second("output_tokens"),
        "samples_per_s": point.per_second("scored"),
        "engine_fingerprint": plan.engine_fingerprint if plan is not None else None,
        "evaluation_fingerprint": plan.evaluation_fingerprint if plan is not None else None,
        "mlflow_run": tracked.run_id if tracked is not None else None,
    }


def _metric_columns(sweep: Sweep, name: MetricId | None, metric: MetricVerdict | None) -> Row:
    low, high = (metric.interval if metric is not None else None) or (None, None)
    return {
        "task": name.task if name is not None else None,
        "metric": name.metric if name is not None else None,
        "filter": name.filter if name is not None else None,
        "compared": name in sweep.compared,
        "metric_verdict": metric.status.value if metric is not None else None,
        "value": metric.value if metric is not None else None,
        "stderr": metric.stderr if metric is not None else None,
        "low": low,
        "high": high,
        "n": metric.n if metric is not None else None,
        "whole": metric.whole if metric is not None else None,
        "baseline": metric.baseline if metric is not None else None,
        "difference": metric.difference if metric is not None else None,
    }


def _plain(value: Any) -> Any:
    """Names come from configurations and data sets: none may act as a formula in a spreadsheet."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
