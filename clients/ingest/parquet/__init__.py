"""Reading Parquet files from others, with bounds on everything."""
