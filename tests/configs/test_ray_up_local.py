"""The cluster file for `ray up`, as Ray itself reads it; nothing is contacted."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config

from fedbus.options import load_federation

CONFIGS = Path(__file__).parents[2] / "configs"
FILE = CONFIGS / "ray-up-local.yaml"


@pytest.fixture
def written() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_rays_own_loader_accepts_it(written):
    prepared = prepare_config(written)
    validate_config(prepared)
    assert prepared["available_node_types"][prepared["head_node_type"]]["max_workers"] == 2
    assert prepared["setup_commands"] == written["setup_commands"]


def test_rays_local_provider_finds_head_and_workers_in_it(written, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.autoscaler._private.local.node_provider.get_lock_path", lambda _: str(tmp_path / "lock"))
    monkeypatch.setattr("ray.autoscaler._private.local.node_provider.get_state_path", lambda _: str(tmp_path / "state"))
    prepared = prepare_config(written)
    provider = _get_node_provider(prepared["provider"], prepared["cluster_name"], use_cache=False)
    found = {provider.internal_ip(node) for node in provider.state.get()}
    assert found == {"192.0.2.10", "192.0.2.11", "192.0.2.12"}


def test_no_command_of_it_stops_every_ray_on_a_host(written):
    prepared = prepare_config(written)
    commands = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    assert commands
    assert not [command for command in commands if "ray stop" in command]


def test_authentication_is_said_explicitly_and_the_token_is_brought_along(written):
    assert "RAY_AUTH_MODE" in (CONFIGS / "ray-node.sh").read_text()
    assert "~/.ray/auth_token" in written["file_mounts"]


def test_the_proxy_is_chosen_at_the_start_of_the_head():
    head = (CONFIGS / "ray-node.sh").read_text().split("head)")[1].split(";;")[0]
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in head
    assert head.index("RAY_SERVE_ENABLE_HA_PROXY") < head.index("launch")


def test_its_federation_file_is_valid_and_asks_for_the_labels_that_its_hosts_get(written):
    options = load_federation(CONFIGS / "onprem.yaml", {})
    (name,) = options.regions
    assert options.regions[name].node_labels == {"region": name}
    assert not options.regions[name].is_local
    starts = [c for key in ("head_start_ray_commands", "worker_start_ray_commands") for c in written[key]]
    assert sum(f"er {name}" in start or f"head {name}" in start for start in starts) == 2


def test_mounted_files_of_the_repository_exist(written):
    root = CONFIGS.parent
    ours = {"./dist/", "./auth_token"}  # made by the commands in the file's head
    assert [path for path in written["file_mounts"].values() if path not in ours and not (root / path).exists()] == []


def test_the_readme_lists_every_file():
    text = (CONFIGS / "README.md").read_text()
    assert [path.name for path in CONFIGS.iterdir() if path.is_file() and f"`{path.name}`" not in text] == ["README.md"]


@pytest.mark.parametrize("arguments", [[], ["start"]])
def test_the_host_script_says_how_it_is_used(arguments):
    done = subprocess.run(
        ["sh", CONFIGS / "ray-node.sh", *arguments], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_the_host_script_leaves_a_process_alone_that_is_no_ray(tmp_path):
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "ray.pid").write_text(str(bystander.pid))
        subprocess.run(
            ["sh", CONFIGS / "ray-node.sh", "stop"], check=True, timeout=20,
            env={"FEDBUS_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": "/"},
        )  # fmt: skip
        assert bystander.poll() is None
        assert not (tmp_path / "run" / "ray.pid").exists()
    finally:
        bystander.kill()
        bystander.wait()
