"""A region that does what its plan says: instances come after a delay and leave at once, minute by minute."""

from __future__ import annotations

import msgspec

from fedbus.control.capacity import InstanceSize
from fedbus.control.load import NS_PER_S
from fedbus.control.plan import RegionPlan, plan
from fedbus.control.view import InstanceView, Memory, ObservedLoad, PlanSettings, RegionView, View

START = 1_735_740_000 * NS_PER_S
MINUTE = 60 * NS_PER_S


class World:
    """``run`` plays minutes of load; ``history`` has (need in events/s, events/s in service, price per hour)."""

    def __init__(
        self, sizes: tuple[InstanceSize, ...], *, size: str = "", maximum: int = 10, delay_min: int = 2, **knobs
    ):
        self.view = RegionView(
            region="eu", sizes=sizes, size=size or sizes[0].name, minimum=1, maximum=maximum,
            provisioning_lead_s=delay_min * 60, target_utilization=1.0, memory=Memory(began_ns=START - 60 * MINUTE),
        )  # fmt: skip
        self.sizes = {each.name: each for each in sizes}
        self.settings = PlanSettings(**knobs)
        self.delay_min, self.now_ns, self.generation = delay_min, START, 0
        self.serving: dict[str, str] = {}
        self.coming: list[tuple[int, str, str]] = []
        self.plans: list[RegionPlan] = []
        self.history: list[tuple[float, float, float]] = []

    @property
    def directives(self):
        return [directive for each in self.plans for directive in each.directives]

    @property
    def eps(self) -> float:
        return sum(self.sizes[size].events_per_s for size in self.serving.values())

    def run(self, load: float, minutes: int = 1, *, bps: float = 0.0) -> RegionPlan:
        """So many minutes of this load, with a plan at the beginning of each."""
        for _ in range(minutes):
            self._minute(load, bps)
        return self.plans[-1]

    def _minute(self, load: float, bps: float) -> None:
        self.now_ns += MINUTE
        self.generation += 1
        self.serving |= {name: size for at_ns, name, size in self.coming if at_ns <= self.now_ns}
        self.coming = [each for each in self.coming if each[0] > self.now_ns]
        states = [(n, s, "healthy") for n, s in self.serving.items()] + [(n, s, "starting") for _, n, s in self.coming]
        self.view = msgspec.structs.replace(
            self.view,
            observed=ObservedLoad(self.now_ns, load, bps),
            instances=tuple(
                InstanceView(id=name, size=size, state=state, node="n", since_ns=START, load_eps=load / len(states))
                for name, size, state in states
            ),
        )
        made = plan(View(now_ns=self.now_ns, generation=self.generation, regions=(self.view,), settings=self.settings))
        (result,) = made.regions
        self.plans.append(result)
        assert len(self.serving) + len(self.coming) <= self.view.maximum
        price = sum(self.sizes[size].cost for _, size, _ in states)
        self.history.append((load, self.eps, price))
        for number, directive in enumerate(result.directives):
            if directive.action == "create":
                at_ns = self.now_ns + self.delay_min * MINUTE
                self.coming.append((at_ns, f"b{self.generation}-{number}", directive.size))
            else:
                del self.serving[directive.instance]
        self.view = msgspec.structs.replace(self.view, memory=result.memory)
