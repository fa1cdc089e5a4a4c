"""The federation file: what is accepted, and that every mistake says where it is and what to do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.policies import DEFAULT_RULE, TopicRule
from fedbus.errors import ConfigurationError
from fedbus.limits import Limits
from fedbus.options import FederationOptions, PortRange, commented_yaml, load_federation
from fedbus.options.environment import RESERVED, keys_of, section_of
from fedbus.quantity import format_duration, format_size, parse_duration_ms, parse_size_bytes

LOCAL = Path(__file__).parent.parent / "configs" / "local.yaml"


@pytest.fixture
def load(tmp_path):
    def load_text(text, environ=None):
        path = tmp_path / "fed.yaml"
        path.write_text(text)
        return load_federation(path, environ or {})

    return load_text


@pytest.fixture
def refusal(load, tmp_path):
    """What is said about a bad file, without the folder it is in."""

    def refused(text, environ=None):
        with pytest.raises(ConfigurationError) as caught:
            load(text, environ)
        return caught.value.detail.replace(f"{tmp_path}/", "")

    return refused


def test_the_local_file_is_the_built_in_default():
    assert load_federation(LOCAL, {}) == load_federation(None, {}) == FederationOptions()


def test_the_local_file_is_what_the_options_say_about_themselves():
    assert LOCAL.read_text() == commented_yaml(FederationOptions())


def test_every_key_is_described():
    unvisited, seen = [FederationOptions], set()
    while unvisited:
        section = unvisited.pop()
        seen.add(section)
        for key, field in keys_of(section).items():
            assert field.description, f"{section.__name__}.{key}"
            inner = section_of(field.annotation)
            if inner is not None and inner not in seen:
                unvisited.append(inner)
    assert len(seen) > 10


def test_the_default_is_three_regions_on_this_machine():
    options = load_federation(None, {})
    assert list(options.regions) == ["aws.us-east-1", "gcp.europe-west1", "onprem.berlin"]
    assert {region.cluster for region in options.regions.values()} == {"local"}
    assert all(region.is_loopback for region in options.regions.values())
    ranges = [region.ports for region in options.regions.values()]
    assert ranges == [PortRange(24000, 24499), PortRange(24500, 24999), PortRange(25000, 25499)]
    assert options.data.root.is_absolute()


def test_an_empty_file_is_the_default(load):
    assert load("") == load("# nothing\n") == FederationOptions()


def test_quantities_are_read_with_their_units(load):
    options = load(
        "forecasting: {slot: 5m, lead: 10m, history: 7d}\n"
        "limits: {event_bytes: 64KiB, ledger_roll_ms: 1h, sessions: 9}\n"
        "topics: {policies: [{filter: 'a.>', retention: 1.5h}]}\n"
    )
    assert (options.forecasting.slot_ms, options.forecasting.slot_s) == (300_000, 300)
    assert options.forecasting.history_ms == 7 * 86_400_000
    assert options.limits == Limits(event_bytes=65_536, ledger_roll_ms=3_600_000, sessions=9)
    assert options.topics.policies[0].retention_ms == 5_400_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gatway:\n  port: 1\n", "fed.yaml:1:1: gatway: unknown key; did you mean gateway?"),
        ("name: x\ngateway:\n  prot: 1\n", "fed.yaml:3:3: gateway.prot: unknown key; did you mean port?"),
        ("gateway:\n  port: x\n", "fed.yaml:2:3: gateway.port: input should be a valid integer"),
        ("gateway:\n  port: 8265\n", "fed.yaml:2:3: gateway.port: 8265 is the port of Ray's dashboard; take another"),
        ("gateway: 5\n", "fed.yaml:1:1: gateway: "),
        ("a: [1\n", "fed.yaml:2:1: not valid YAML"),
        ("a: \t- x\n", "fed.yaml:1:"),
        ("a: \x01\n", "fed.yaml: not valid YAML"),
        ("- 1\n", "fed.yaml:1:1: holds a list; a federation file is a mapping"),
        ("name: a\nname: b\n", "fed.yaml:2:1: name: is there twice"),
        ("a: &a [*a]\n", "fed.yaml:1:4: a[0]: the aliases"),
        ("a: {<<: {b: 1}}\n", "merge keys (<<)"),
        ("? [a]\n: b\n", "keys are plain words"),
        ("name: 'Ü'\n", "fed.yaml:1:1: name: 'Ü' is no federation name"),
        ("limits:\n  event_bytez: 1MiB\n", "fed.yaml:2:3: limits.event_bytez: unknown key; did you mean event_bytes?"),
        ("limits:\n  event_bytes: 5MiB\n", "limits: event_bytes (5242880) must not exceed batch_bytes (4194304)"),
        ("limits:\n  event_bytes: 0\n", "fed.yaml:2:3: limits.event_bytes: 0 is no limit"),
        ("limits: 5\n", "fed.yaml:1:1: limits: is a mapping"),
        ("forecasting:\n  slot: 60\n", "fed.yaml:2:3: forecasting.slot: 60 has no unit; write a duration such as"),
        ("forecasting: {horizon: 10s}\n", "slot ≤ lead ≤ horizon ≤ history ≤ keep does not hold"),
        ("forecasting: {slot: 7s}\n", "divide the day"),
        ("forecasting: {step: 90s}\n", "step must be a multiple of slot"),
        ("forecasting: {models: [lstm]}\n", "forecasting.models[0]: input should be 'direct', 'mstl', 'arima',"),
        ("gateway:\n  host: 0.0.0.0\n", "gateway listens beyond this machine"),
        ("slas:\n- filter: 'a.>.b'\n", "fed.yaml:2:3: slas[0].filter: 'a.>.b' is not a filter"),
        ("slas:\n- latency: 1s\n", "fed.yaml:2:3: slas[0].filter: is missing; add it"),
        ("topics: {policies: [{filter: 'a.*'}, {filter: '*.b'}]}\n", "filters a.* and *.b are equally specific"),
        ("triggers:\n- {name: x, start: 2026-13-41, end: 2026-01-01}\n", "fed.yaml:2:13: triggers[0].start"),
        ("triggers:\n- {name: x, start: 2026-01-01 00:00:00, end: 2026-01-02 00:00:00Z}\n", "timezone"),
        (
            "triggers:\n- {name: x, region: eu, start: 2026-01-01T00:00:00Z, end: 2026-01-02T00:00:00Z}\n",
            "trigger 'x' names the unknown region eu",
        ),
        ("regions:\n", "fed.yaml:1:1: regions: input should be a mapping"),
        ("regions: {}\n", "fed.yaml:1:1: regions: "),
        ("regions:\n  Foo: {}\n", "fed.yaml:2:3: regions.Foo: Foo is no region id"),
        ("regions:\n  aws.x:\n    latitude: 91\n", "fed.yaml:3:5: regions[aws.x].latitude: "),
        ("regions:\n  aws.x:\n    latitude: .nan\n", "fed.yaml:3:5: regions[aws.x].latitude: "),
        ("regions:\n  aws.x:\n    replicas: 6\n", "replicas"),
        ("regions:\n  aws.x:\n    replicas: 2\n    min_copies: 3\n", "more than the 2 copies"),
        ("regions:\n  aws.x:\n    instances: {min: 3, max: 2}\n", "min (3) ≤ initial (1) ≤ max (2)"),
        ("regions:\n  aws.x:\n    instances: {size: huge}\n", "'huge' is none of the sizes small"),
        ("regions:\n  aws.x:\n    sizes: {s: {cpuss: 1}}\n", "sizes.s.cpuss: unknown key; did you mean cpus?"),
        ("regions:\n  aws.x:\n    listen: {ports: 10000-20500}\n", "meets 10001-19999 (Ray's client and workers)"),
        ("regions:\n  aws.x:\n    listen: {ports: 31500-40000}\n", "the kernel's ephemeral ports"),
        (
            "regions:\n  aws.x:\n    listen: {ports: 24000-24001}\n",
            "too few ports for instances.max (4): an instance takes two",
        ),
        (
            "regions:\n  aa: {listen: {ports: 24000-24999}}\n  bb: {listen: {ports: 24999-25999}}\n",
            "aa and bb share ports (24000-24999 and 24999-25999)",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_a_remedy(refusal, text, said):
    assert said in refusal(text)


def test_all_mistakes_are_told_at_once(refusal):
    assert len(refusal("gatway: 1\ngateway: {port: x}\nslas: [{latency: 5}]\n").splitlines()) == 4


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path, said in (
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            load_federation(path, {})
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_federation(latin, {})


def test_a_small_file_cannot_mean_a_huge_one(refusal):
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in refusal("\n".join(lines))


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any", numbered=True) / "fed.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        said = load_federation(path, {}).name
    except ConfigurationError as error:
        said = error.detail
    assert said == "local" or str(path) in said


def test_regions_without_ports_get_free_ones(load):
    options = load("regions:\n  aa: {}\n  bb: {listen: {ports: 24000-24499}}\n  cc: {}\n")
    assert [region.ports.first for region in options.regions.values()] == [24500, 24000, 25000]


def test_regions_on_different_clusters_may_use_the_same_ports(load):
    options = load(
        "regions:\n  aa: {cluster: 'h1:6379', listen: {ports: 24000-24499}}\n  bb: {listen: {ports: 24000-24499}}\n"
    )
    assert options.regions["aa"].ports == options.regions["bb"].ports


def test_listening_to_the_network_needs_a_word(load):
    options = load("gateway: {host: 0.0.0.0}\nsecurity: {allow_plaintext: true}\n")
    assert not options.gateway.is_loopback


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("FEDBUS_NAME", "x", lambda o: o.name == "x"),
        ("FEDBUS_GATEWAY__PORT", "9000", lambda o: o.gateway.port == 9000),
        ("FEDBUS_REGIONS__AWS_US_EAST_1__INSTANCES__MAX", "9", lambda o: o.regions["aws.us-east-1"].instances.max == 9),
        (
            "FEDBUS_REGIONS__ONPREM_BERLIN__SIZES__SMALL__CPUS",
            "2",
            lambda o: o.regions["onprem.berlin"].sizes["small"].cpus == 2,
        ),
        ("FEDBUS_LIMITS__EVENT_BYTES", "512KiB", lambda o: o.limits.event_bytes == 524_288),
        ("FEDBUS_LIMITS__SESSIONS", "12", lambda o: o.limits.sessions == 12),
        ("FEDBUS_SLAS__0__LATENCY", "2s", lambda o: o.slas[0].latency_ms == 2000),
        ("FEDBUS_FORECASTING__ENABLED", "false", lambda o: o.forecasting.enabled is False),
        ("FEDBUS_DATA__DIRECTORY", "/srv/x", lambda o: o.data.root == Path("/srv/x")),
    ],
)
def test_variables_override_scalars(load, variable, value, found):
    assert found(load_federation(None, {variable: value}))
    assert found(load("", {variable: value}))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("FEDBUS_GATEWAY__PROT", "did you mean FEDBUS_GATEWAY__PORT?"),
        ("FEDBUS_GATEWAY_PORT", "write it as FEDBUS_GATEWAY__PORT"),
        (
            "FEDBUS_GATEWAY__PORT",
            "environment variable FEDBUS_GATEWAY__PORT: gateway.port: input should be a valid integer",
        ),
        ("FEDBUS_GATEWAY__PORT__X", "X is no option there"),
        ("FEDBUS_LIMITS__SESSIONZ", "did you mean FEDBUS_LIMITS__SESSIONS?"),
        ("FEDBUS_REGIONS__AWS_US_EAST_1", "only scalars"),
        ("FEDBUS_SLAS__7__LATENCY", "7 is no place in a list of 1"),
        ("FEDBUS___PORT", "no option there"),
    ],
)
def test_a_wrong_variable_is_refused(refusal, variable, said):
    assert said in refusal("slas: [{filter: '>'}]\n", {variable: "nonsense"})


def test_variables_of_others_are_left_alone():
    assert load_federation(None, dict.fromkeys(RESERVED, "x") | {"PATH": "/bin"}) == FederationOptions()


@given(st.integers(1, 10**12))
def test_quantities_survive_being_written(amount):
    assert parse_duration_ms(format_duration(amount)) == amount
    assert parse_size_bytes(format_size(amount)) == amount


@pytest.mark.parametrize(
    "written", ["", "7", "d", "-1s", "1e3s", "1 parsec", "0.3ms", "1kib", None, True, 1.5, [], "9" * 15 + "w"]
)
def test_what_is_no_quantity_is_refused(written):
    for parse in (parse_duration_ms, parse_size_bytes):
        with pytest.raises(ValueError, match="is not a"):
            parse(written)


def test_a_policy_means_the_same_to_the_data_plane(load):
    options = load(
        "topics: {policies: [{filter: a, retention: 1h, retention_bytes: 1GiB, dedup_window: 10m, validation: none},"
        " {filter: '>'}]}"
    )
    rule = TopicRule(
        filter="a", retention_ms=3_600_000, retention_bytes=2**30, dedup_window_ms=600_000, validation="none"
    )
    assert options.topics.rules() == [rule, DEFAULT_RULE]


def test_policies_that_tie_are_refused(refusal):
    assert "equally specific" in refusal("topics: {policies: [{filter: 'a.*'}, {filter: '*.b'}]}\n")


def test_the_control_plane_gets_its_own_types():
    options = load_federation(None, {})
    assert options.slas[0].sla().filter == ">"
    assert options.manager.plan_settings().brake_share == options.manager.brake_share
    assert options.health.settings().slow_ms == options.health.slow_ms
    (capacity,) = options.regions["onprem.berlin"].capacities()
    assert (capacity.name, capacity.events_per_s) == ("small", 20_000.0)


def test_instances_of_a_size_that_the_file_does_not_name_any_more_run_as_the_present_one(load):
    region = load("regions: {here: {sizes: {large: {cpus: 4}}, instances: {size: large}}}").regions["here"]
    assert region.size_of("large") == region.size_of("gone") == region.sizes["large"]


def test_a_trigger_means_the_window_it_says(load):
    options = load(
        "triggers:\n- {name: sale, region: onprem.berlin, start: 2026-01-01T00:00:00Z, "
        "end: 2026-01-01T02:00:00+01:00, factor: 3}\n"
    )
    trigger = options.triggers[0].trigger()
    assert (trigger.end_ns - trigger.start_ns, trigger.expected_factor) == (3_600_000_000_000, 3.0)
    assert trigger.start_ns == 1_767_225_600_000_000_000


MESH = LOCAL.with_name("mesh.yaml")
KEY = "k" * 40


def test_the_mesh_file_gives_each_region_its_own_addresses():
    options = load_federation(MESH, {})
    assert [region.peering_address("127.0.0.1") for region in options.regions.values()] == [
        "tcp://10.77.1.2:24099", "tcp://10.77.2.2:24099", "tcp://10.77.3.2:24099",
    ]  # fmt: skip
    assert [options.gateway_url(name, "127.0.0.1") for name in options.regions] == [
        "http://10.77.1.2:8000", "http://10.77.2.2:8000", "http://10.77.3.2:8000",
    ]  # fmt: skip


def test_an_instance_has_its_link_port_as_far_up_in_the_upper_half_and_the_manager_the_last():
    region = FederationOptions().regions["aws.us-east-1"]
    assert (region.instance_ports, region.link_port(24_003), region.peering_port) == (
        PortRange(24_000, 24_249), 24_253, 24_499,
    )  # fmt: skip


def test_a_file_may_name_its_own_region_and_one_elsewhere_to_join_by(load):
    options = load(
        f"regions:\n  aa: {{}}\n  bb: {{cluster: elsewhere, peering: 'tcp://b.example:24499', public_key: '{KEY}'}}\n"
    )
    assert options.startable == ("aa",)
    assert options.regions["bb"].peering_address("127.0.0.1") == "tcp://b.example:24499"
    assert (options.schema_home, load("registry: {home: zz}\n").schema_home) == ("aa", "zz")


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("{cluster: elsewhere}", "a region elsewhere needs `peering` and `public_key`"),
        ("{public_key: short}", "'short' is no public key: 40 characters of Z85"),
        ("{peering: 'b.example:1'}", "'b.example:1' is no address of a region: write tcp://host:port"),
        ("{peering: 'tcp://b:99999'}", "is no address of a region"),
        ("{listen: {ports: 24000-24019, peering: 24003}}", "listen.peering 24003 is one of the instances' ports"),
        ("{gateway: {prot: 1}}", "gateway.prot: unknown key; did you mean port?"),
        ("{listen: {host: 10.0.0.1}}", "clients are let in unencrypted"),
        ("{gateway: {host: 10.0.0.1}}", "gateway.host: '10.0.0.1': a gateway listens on 127.0.0.1 or"),
        ("{gateway: {host: 0.0.0.0}}", "gateway listens beyond this machine"),
        ("{gateway: {port: 24001}}", "gateway.port 24001 is one of the ports of region aa"),
    ],
)
def test_a_mistake_about_a_region_apart_is_explained(refusal, region, said):
    assert said in refusal(f"regions:\n  aa: {region}\n")


def test_a_region_must_not_be_lost_for_one_late_summary(refusal):
    assert "one late summary would lose a region" in refusal("peering: {interval: 2s, lost_after: 3s}\n")


def test_regions_on_different_addresses_may_use_the_same_ports(load):
    text = "security: {allow_plaintext: true}\nregions:\n"
    for place, name in enumerate(("aa", "bb")):
        text += f"  {name}: {{listen: {{host: 10.0.0.{place}, ports: 24000-24099}}}}\n"
    assert load(text).regions["aa"].ports == load(text).regions["bb"].ports


def test_a_region_of_its_own_has_its_own_gateway(load):
    options = load(
        "gateway: {request_timeout: 9s}\n"
        "regions:\n  aa: {gateway: {port: 8001, advertise: 'https://a.example'}}\n  bb: {}\n"
    )
    assert [options.gateway_of(name).port for name in options.regions] == [8001, 8000]
    assert options.gateway_of("aa").request_timeout_ms == 9000
    assert options.gateway_url("aa", "10.0.0.1") == "https://a.example"


def test_strangers_are_told_the_address_that_a_nat_maps_to(load):
    ports = "listen: {ports: 24000-24019}, advertise: {external: 203.0.113.7, ports: 25000-25019}"
    region = load(f"regions:\n  aa: {{{ports}}}\n").regions["aa"]
    assert region.external_endpoint("tcp://10.0.0.1:24003") == "tcp://203.0.113.7:25003"
    assert region.peering_address("10.0.0.1") == "tcp://203.0.113.7:25019"
