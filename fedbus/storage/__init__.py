"""What is on disk: ledger files, the data directory, the metadata store."""
