"""Parquet files of strangers, read with bounds on everything."""
