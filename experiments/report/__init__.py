"""Reports from files alone: ``records.parquet`` and ``metrics.json`` in, ``report.html`` out; no model, no GPU."""
