"""``python -m fedbus_loadtests.chaos``."""

from fedbus_loadtests.chaos.command import chaos

if __name__ == "__main__":
    chaos()
