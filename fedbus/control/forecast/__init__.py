"""Load forecasting: several forecasters behind one protocol, chosen by their recent error, with an honest fallback.

Importing this package or :mod:`fedbus.control.forecast.protocol` pulls in neither NumPy nor statsforecast;
:mod:`~fedbus.control.forecast.engine` needs the ``[cluster]`` extra.
"""
