"""The control plane's decisions, pure: load, forecast, capacity, plan, directives and health.

Nothing here reads a clock, opens a file or a socket, or spawns a thread: times come in as ``now_ns``, seeds and
measurements as arguments, and what should be done comes out as values. The actors execute. NumPy and statsforecast
are touched inside ``fedbus.control.forecast`` only, so that the manager can plan without importing either.
"""
