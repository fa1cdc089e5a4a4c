"""The federation file: one options tree, one place of defaults, passed down by section.

:func:`load_federation` is the door; each section has a file of its own. Needs the extra ``cluster`` (pydantic, PyYAML).
"""

from fedbus.options.control import ForecastingOptions, HealthOptions, ManagerOptions, SlaOptions
from fedbus.options.federation import DataOptions, FederationOptions
from fedbus.options.gateway import GatewayOptions, SecurityOptions
from fedbus.options.load import load_federation, load_triggers
from fedbus.options.mesh import GroupsOptions, PeeringOptions, RegistryOptions
from fedbus.options.quantity import PortRange
from fedbus.options.reference import commented_yaml
from fedbus.options.regions import (
    AdvertiseOptions,
    InstanceBounds,
    InstanceSize,
    ListenOptions,
    RegionGatewayOptions,
    RegionOptions,
)
from fedbus.options.topics import TopicPolicy, TopicsOptions
from fedbus.options.trigger import TriggerOptions

__all__ = [
    "AdvertiseOptions",
    "DataOptions",
    "FederationOptions",
    "ForecastingOptions",
    "GatewayOptions",
    "GroupsOptions",
    "HealthOptions",
    "InstanceBounds",
    "InstanceSize",
    "ListenOptions",
    "ManagerOptions",
    "PeeringOptions",
    "PortRange",
    "RegionGatewayOptions",
    "RegionOptions",
    "RegistryOptions",
    "SecurityOptions",
    "SlaOptions",
    "TopicPolicy",
    "TopicsOptions",
    "TriggerOptions",
    "commented_yaml",
    "load_federation",
    "load_triggers",
]
