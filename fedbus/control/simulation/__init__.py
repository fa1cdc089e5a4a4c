"""Simulation: what a scaling policy would have done to a load that has already been. Pure NumPy, a minute per step.

The rules are fixed so that figures compare (docs/simulate.md); a policy sees only the past, and the predictive one is
the very engine and planner of the live manager. Files, clocks and drawing are left to the command line.
"""
