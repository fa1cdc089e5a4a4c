"""The demonstration: three regions, a realistic load on a scaled clock, a forecast, a failure on purpose, a summary."""
