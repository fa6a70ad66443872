"""What lasts: Parquet files, the catalog, the ledger and the quarantine, and the views that analysts query."""
