"""``fedbus schema`` against a real server: what it prints, and how it fails."""

from __future__ import annotations

import json
import socket
import threading
from types import SimpleNamespace

import pytest
import uvicorn
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Mount

from fedbus.cli.schema import schema
from fedbus.schema.registry import Registry
from fedbus.schema.store import MemorySchemaStore
from fedbus_serve.registry import registry_app

ORDER = '{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}'


@pytest.fixture
def url():
    app = Starlette(routes=[Mount("/registry", registry_app(Registry(MemorySchemaStore())))])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()  # the socket listens already: a request waits until the server is there
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def run(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.json").write_text(ORDER)

    def call(*arguments, stdin=None):
        return CliRunner().invoke(schema, list(arguments), obj=SimpleNamespace(url=url), input=stdin)

    return call


def test_register_list_show_check_delete(run):
    done = run("register", "orders-value", "order.json")
    assert (done.exit_code, done.output) == (0, "orders-value version 1 is schema id 1\n")
    assert "orders-value" in run("list").output
    shown = run("show", "orders-value").output
    assert "version 1, schema id 1, JSON" in shown
    assert '"required"' in shown
    assert run("check", "orders-value", "-", stdin='{"id": 1}').exit_code == 0
    wrong = run("check", "orders-value", "-", "--lines", stdin='{"id": 1}\n\n{"id": "x"}\n')
    assert wrong.exit_code == 1
    assert "/id" in wrong.output
    assert run("delete", "orders-value").output == "deleted orders-value version 1\n"
    assert run("delete", "orders-value", "--version", "1", "--permanent").output.endswith("for good\n")


def test_every_command_speaks_json(run):
    assert json.loads(run("register", "a/b", "-", "--json", stdin=ORDER).output) == {
        "subject": "a/b",
        "id": 1,
        "version": 1,
    }
    listed = json.loads(run("list", "--json").output)
    assert listed == [{"subject": "a/b", "version": 1, "id": 1, "schemaType": "JSON"}]
    assert json.loads(run("show", "a/b", "--version", "1", "--json").output)["schema"] == ORDER
    checked = json.loads(run("check", "a/b", "-", "--json", stdin="{}").output)
    assert checked["valid"] is False
    assert checked["problems"] == [{"line": 1, "pointer": "", "message": '"id" is a required property'}]
    assert json.loads(run("config", "--json").output) == {"subject": None, "compatibilityLevel": "NONE"}
    assert json.loads(run("delete", "a/b", "--json").output) == {"subject": "a/b", "versions": [1], "permanent": False}


def test_config_sets_what_can_be_set(run):
    assert run("config", "a", "--set", "NONE").output == "a: compatibility NONE\n"
    assert run("config", "a", "--unset").exit_code == 0
    refused = run("config", "--set", "BACKWARD")
    assert refused.exit_code == 1
    assert "does not check the evolution" in refused.output
    assert run("config", "--set", "NONE", "--unset").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "absent"], "Subject 'absent' not found"),
        (["show", "absent", "--version", "x"], "not a valid version"),
        (["check", "absent", "order.json"], "not found"),
        (["register", "a", "bad.json"], "not JSON"),
        (["register", "__GLOBAL", "order.json"], "reserved"),
        (["delete", "absent"], "not found"),
    ],
)
def test_refusals_are_said_in_the_registrys_words(run, tmp_path, arguments, words):
    (tmp_path / "bad.json").write_text("{")
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in " ".join(done.output.split())


def test_files_that_cannot_be_read_are_wrong_usage_or_a_clear_failure(run, tmp_path):
    assert run("register", "a", "absent.json").exit_code == 2
    (tmp_path / "latin.json").write_bytes(b'{"title": "\xe4"}')
    done = run("register", "a", "latin.json")
    assert (done.exit_code, "not UTF-8" in done.output) == (1, True)


def test_a_gateway_that_is_not_there_is_a_clear_failure(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("FEDBUS_URL", f"http://127.0.0.1:{port}")
    done = CliRunner().invoke(schema, ["list"])
    assert done.exit_code == 1
    assert f"cannot reach the registry at http://127.0.0.1:{port}/registry" in done.output
