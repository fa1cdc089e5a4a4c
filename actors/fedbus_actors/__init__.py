"""The Ray shell: bus instances, managers, monitors, the forecaster; executes what ``fedbus`` decides."""
