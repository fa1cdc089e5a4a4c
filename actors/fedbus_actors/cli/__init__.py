"""Commands of `fedbus` that need the cluster extra: one file per command, found by entry point."""
