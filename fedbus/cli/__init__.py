"""The command line `fedbus`: one file per command group."""
