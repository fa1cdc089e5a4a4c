"""Load on fedbus, and what comes of it: the demonstration, locust users, benchmarks."""
