"""Random runs of the simulated world from a seed: the steps of the state machines, weighted as life weights them."""

from collections.abc import Callable
from random import Random

from tests.broker.test_group_simulation import CHANGES, ChangingGroups
from tests.broker.test_simulation import FILTERS, HOW, TOPICS, Damage, Faults, Links, Mutual

KINDS = {"faults": Faults, "links": Links, "mutual": Mutual, "damage": Damage, "groups": ChangingGroups}
WEIGHTS = {
    "publish": 30, "hear": 20, "consume": 25, "commit": 25, "read": 10, "wait": 15, "subscribe": 5, "send_again": 4,
    "come_back": 5, "restart": 8, "leave": 4, "crash": 2, "reroute": 1, "fill_disk": 2, "break_disk": 0.3,
    "damage": 0.5, "want": 3, "want_back": 3, "manager_looks": 6, "move_links": 12, "move_links_well": 25,
    "manage": 3, "push": 3,
}  # fmt: skip


def run_scenario(kind: str, seed: int, steps: int) -> None:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    print(f"scenario {kind}, seed {seed}, {steps} steps")
    random = Random(seed)
    machine = KINDS[kind]()
    machine.begin()
    names = [name for name in WEIGHTS if hasattr(machine, name)]
    for name in random.choices(names, [WEIGHTS[name] for name in names], k=steps):
        getattr(machine, name)(**_arguments(name, random))
        machine.ends_never_go_back()
    machine.teardown()


def _arguments(name: str, random: Random) -> dict[str, object]:
    at = random.randrange(1000)
    made: dict[str, Callable[[], dict[str, object]]] = {
        "publish": lambda: {
            "at": at,
            "topic": random.choice(TOPICS),
            "keys": [random.randrange(4) for _ in range(random.randint(1, 8))],
        },
        "subscribe": lambda: {
            "at": at,
            "group": random.choice(["", "g", "g", "h"]),
            "filters": random.randrange(len(FILTERS)),
            "start": random.choice(["earliest", "earliest", "latest"]),
            "credit": random.randint(1, 40),
        },
        "consume": lambda: {"at": at, "how": random.choice(HOW)},
        "leave": lambda: {"at": at, "politely": random.random() < 0.5},
        "commit": lambda: {"at": at, "most": random.randint(1, 8)},
        "wait": lambda: {"milliseconds": random.choice([20, 20, 20, 100, 200, 500, 500, 4000, 11_000])},
        "crash": lambda: {"at": at, "survivors": random.choice([0, 0, 1, 2, 5])},
        "reroute": lambda: {"at": at, "to": random.randrange(1000)},
        "fill_disk": lambda: {"at": at, "full": random.random() < 0.4},
        "damage": lambda: {"at": at, "which": random.randrange(1000)},
        "manage": lambda: {"at": at, "how": random.choice(CHANGES)},
        "want": lambda: {"filters": at},
        "want_back": lambda: {"filters": at},
        "move_links": lambda: {"losses": [random.random() < 0.15 for _ in range(12)]},
        "manager_looks": dict,
        "move_links_well": dict,
    }
    return made.get(name, lambda: {"at": at})()
