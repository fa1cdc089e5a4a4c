"""``fedbus`` itself: which federation, which commands, which exit status."""

import json
import subprocess
import sys
from importlib import metadata

import click
import pytest

import fedbus
from fedbus.cli import main as module
from fedbus.cli.main import main
from fedbus.cli.target import Target


@pytest.fixture
def probe(monkeypatch):
    """A command that does what the test says; sees the target."""
    seen = []

    def add(action=lambda: None):
        @click.command()
        @click.pass_obj
        def probing(target):
            """Look."""
            seen.append(target)
            action()

        entry = metadata.EntryPoint("probe", "tests:probe", module.ENTRY_POINTS)
        monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: probing)
        monkeypatch.setattr(module, "_plugged_in", lambda: {"probe": entry})
        return seen

    return add


def fail(error):
    raise error


def test_help_names_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom fedbus.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'ray', 'zmq', 'httpx', 'rich', 'jsonschema_rs', 'fedbus_actors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "publish" in done.stdout
    assert "subscribe" in done.stdout


def test_import_fedbus_imports_no_socket_library():
    code = "import sys, fedbus; sys.exit(bool({'zmq', 'asyncio', 'httpx', 'msgspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_every_public_name_is_there():
    assert all(getattr(fedbus, name) is not None for name in fedbus.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        fedbus.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "environment", "urls"),
    [
        ([], {}, ["http://127.0.0.1:8000"]),
        ([], {"FEDBUS_URL": "tcp://a:1,tcp://b:1"}, ["tcp://a:1", "tcp://b:1"]),
        (["--context", "lab"], {"FEDBUS_URL": "tcp://a:1"}, ["http://lab:8000"]),
        (["--url", "http://x:1", "--url", "http://y:1", "--context", "lab"], {}, ["http://x:1", "http://y:1"]),
    ],
)
def test_the_federation_is_found_in_this_order(run, probe, tmp_path, arguments, environment, urls):
    (tmp_path / "fedbus").mkdir()
    (tmp_path / "fedbus" / "contexts.json").write_text(json.dumps({"lab": {"urls": ["http://lab:8000"], "token": "t"}}))
    seen = probe()
    assert run(*arguments, "probe", env=environment).exit_code == 0
    assert seen[0].urls == urls
    assert seen[0].url == urls[0]


def test_the_token_comes_from_the_environment(run, probe):
    seen = probe()
    run("probe", env={"FEDBUS_TOKEN": "secret"})
    assert seen == [Target(["http://127.0.0.1:8000"], "secret")]


def test_an_unknown_context_is_wrong_usage(run, probe, tmp_path):
    probe()
    assert run("--context", "lab", "probe").exit_code == 2
    (tmp_path / "fedbus").mkdir()
    (tmp_path / "fedbus" / "contexts.json").write_text('{"home": {"urls": ["http://h"]}}')
    result = run("--context", "lab", "probe")
    assert result.exit_code == 2
    assert "home" in result.stderr


def test_an_error_of_ours_is_one_line_with_its_code_and_status_1(run, probe):
    probe(lambda: fail(fedbus.UnavailableError("nobody is there")))
    result = run("probe")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: nobody is there [unavailable]\n"


def test_debugging_shows_the_traceback(run, probe):
    probe(lambda: fail(fedbus.UnavailableError("nobody is there")))
    assert isinstance(run("probe", env={"FEDBUS_DEBUG": "1"}).exception, fedbus.UnavailableError)


def test_ctrl_c_is_status_130(run, probe):
    probe(lambda: fail(KeyboardInterrupt()))
    assert run("probe").exit_code == 130


def test_a_command_without_its_extra_says_what_to_install(run, probe, monkeypatch):
    probe()
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: fail(ModuleNotFoundError("No module named 'ray'")))
    result = run("probe")
    assert result.exit_code == 2
    assert "fedbus probe needs the cluster extra: pip install 'fedbus[cluster]'" in result.stderr


def test_an_unknown_command_is_wrong_usage(run):
    assert run("nonsense").exit_code == 2


def test_the_schema_commands_are_there():
    assert "register" in main.get_command(click.Context(main), "schema").commands
