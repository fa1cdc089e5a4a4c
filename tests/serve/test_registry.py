"""The registry over HTTP: Confluent's paths, bodies, codes and media types, mounted as the gateway mounts it."""

from __future__ import annotations

import json
import threading

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from fedbus.errors import StorageError
from fedbus.schema.limits import REQUESTS_WAITING, SCHEMA_BYTES
from fedbus.schema.registry import Registry
from fedbus.schema.store import MemorySchemaStore
from fedbus_serve.registry import registry_app

V1 = "application/vnd.schemaregistry.v1+json"
INTEGER, STRING = '{"type":"integer"}', '{"type":"string"}'


class Api:
    """The mounted application and what it pushed."""

    def __init__(self, store=None, **options):
        self.store = store or MemorySchemaStore()
        self.pushed = []
        app = registry_app(Registry(self.store), on_change=self.pushed.append, **options)
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/registry", app)]), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway/registry")

    async def call(self, method, path, body=None, **query):
        return await self.http.request(method, path, json=body, params=query)

    async def register(self, subject, schema=INTEGER, **extra):
        return await self.call(
            "POST", f"/subjects/{subject}/versions", {"schema": schema, "schemaType": "JSON", **extra}
        )

    async def get(self, path, **query):
        return (await self.call("GET", path, **query)).json()

    async def code(self, method, path, body=None, **query):
        """The error code, after checking that the body is an error body and that status and code agree."""
        answer = await self.call(method, path, body, **query)
        refusal = answer.json()
        assert set(refusal) == {"error_code", "message"}, refusal
        assert answer.status_code == int(str(refusal["error_code"])[:3])
        assert answer.headers["content-type"] == V1
        assert refusal["message"]
        return refusal["error_code"]


@pytest.fixture
async def api():
    made = Api()
    yield made
    await made.http.aclose()


@pytest.fixture
async def filled(api):
    await api.register("a", INTEGER)
    await api.register("a", STRING)
    await api.register("b", STRING)
    return api


async def test_a_schema_is_registered_and_read_back_on_every_path(api):
    answer = await api.register("orders-value")
    assert (answer.status_code, answer.json()) == (
        200,
        {"id": 1, "version": 1, "schemaType": "JSON", "schema": INTEGER},
    )
    described = {"subject": "orders-value", "version": 1, "id": 1, "schemaType": "JSON", "schema": INTEGER}
    for version in ("1", "latest", "-1"):
        assert await api.get(f"/subjects/orders-value/versions/{version}") == described
    assert await api.get("/subjects/orders-value/versions/1/schema") == json.loads(INTEGER)
    assert await api.get("/subjects/orders-value/versions/1/referencedby") == []
    assert await api.get("/subjects/orders-value/versions") == [1]
    assert await api.get("/subjects") == ["orders-value"]
    assert await api.get("/schemas") == [described]
    assert await api.get("/schemas/ids/1") == {"schemaType": "JSON", "schema": INTEGER}
    assert await api.get("/schemas/ids/1/schema") == json.loads(INTEGER)
    assert await api.get("/schemas/ids/1/subjects") == ["orders-value"]
    assert await api.get("/schemas/ids/1/versions") == [{"subject": "orders-value", "version": 1}]
    found = await api.call("POST", "/subjects/orders-value", {"schema": ' {"type": "integer"}', "schemaType": "JSON"})
    assert found.json() == described


async def test_trivial_resources_answer(api):
    assert await api.get("/schemas/types") == ["JSON"]
    assert await api.get("/") == {}
    assert await api.get("/contexts") == ["."]
    assert await api.get("/mode") == {"mode": "READWRITE"}
    assert await api.get("/mode/a", defaultToGlobal="true") == {"mode": "READWRITE"}
    assert await api.code("GET", "/mode/a") == 40409
    assert (await api.call("PUT", "/mode", {"mode": "READWRITE"})).json() == {"mode": "READWRITE"}
    assert await api.code("PUT", "/mode", {"mode": "IMPORT"}) == 42205
    assert await api.code("PUT", "/mode", {"mode": "SIDEWAYS"}) == 42204


async def test_what_is_not_there_has_confluents_codes(filled):
    assert await filled.code("GET", "/subjects/x/versions") == 40401
    assert await filled.code("GET", "/subjects/x/versions/1") == 40401
    assert await filled.code("GET", "/subjects/a/versions/9") == 40402
    assert await filled.code("GET", "/schemas/ids/99") == 40403
    assert await filled.code("GET", "/schemas/ids/99/versions") == 40403
    assert await filled.code("POST", "/subjects/x", {"schema": "true", "schemaType": "JSON"}) == 40401
    assert await filled.code("POST", "/subjects/a", {"schema": "true", "schemaType": "JSON"}) == 40403
    assert await filled.code("GET", "/config/a") == 40408
    assert await filled.code("DELETE", "/subjects/x") == 40401
    assert await filled.code("DELETE", "/subjects/a/versions/9") == 40402
    assert await filled.code("GET", "/nothing") == 404
    assert await filled.code("GET", "/schemas/ids/x") == 404
    assert await filled.code("PATCH", "/subjects") == 405


@pytest.mark.parametrize("version", ["0", "-2", "x", "1.0", "99999999999", "+1", "٣"])
async def test_a_version_that_is_none_is_42202(filled, version):
    assert await filled.code("GET", f"/subjects/a/versions/{version}") == 42202


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"schema": '{"type":"record"}'}, 42201),
        ({"schema": '{"type":"record"}', "schemaType": "AVRO"}, 42201),
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, 42201),
        ({"schemaType": "JSON"}, 42201),
        ({"schema": "{", "schemaType": "JSON"}, 42201),
        ({"schema": '{"type":"strng"}', "schemaType": "JSON"}, 42201),
        ({"schema": '{"$ref":"http://127.0.0.1:9/x"}', "schemaType": "JSON"}, 42201),
        ({"schema": "true", "schemaType": "JSON", "references": [{"name": "x", "subject": "a", "version": 1}]}, 42201),
        ({"schema": "true", "schemaType": "JSON", "ruleSet": {"domainRules": [{}]}}, 42205),
        ({"schema": "true", "schemaType": "JSON", "id": 7, "version": 1}, 42205),
        ({"schema": json.dumps("x" * SCHEMA_BYTES), "schemaType": "JSON"}, 42209),
        ({"schema": 5, "schemaType": "JSON"}, 400),
        ([], 400),
    ],
)
async def test_what_cannot_be_registered_says_why_and_changes_nothing(api, body, code):
    assert await api.code("POST", "/subjects/a/versions", body) == code
    assert await api.get("/subjects") == []
    assert api.pushed == []


async def test_fields_of_newer_clients_do_no_harm(api):
    extra = {"references": [], "metadata": None, "ruleSet": None, "id": -1, "version": -1, "propagateSchemaTags": False}
    assert (await api.register("a", **extra)).status_code == 200


async def test_deletion_is_soft_first_and_then_for_good(filled):
    assert (await filled.call("DELETE", "/subjects/a/versions/latest")).json() == 2
    assert await filled.get("/subjects/a/versions") == [1]
    assert await filled.get("/subjects/a/versions", deleted="true") == [1, 2]
    assert await filled.get("/subjects/a/versions", deletedOnly="true") == [2]
    assert await filled.code("GET", "/subjects/a/versions/2") == 40402
    assert (await filled.get("/subjects/a/versions/2", deleted="true"))["id"] == 2
    assert await filled.code("DELETE", "/subjects/a/versions/2") == 40406
    assert await filled.code("DELETE", "/subjects/a/versions/1", permanent="true") == 40407
    assert await filled.code("DELETE", "/subjects/a", permanent="true") == 40405
    assert (await filled.call("DELETE", "/subjects/a")).json() == [1]
    assert await filled.code("DELETE", "/subjects/a") == 40404
    assert await filled.get("/subjects") == ["b"]
    assert await filled.get("/subjects", deleted="true") == ["a", "b"]
    assert (await filled.call("GET", "/schemas/ids/1")).status_code == 200
    assert (await filled.call("DELETE", "/subjects/a", permanent="true")).json() == [1, 2]
    assert await filled.code("GET", "/schemas/ids/1") == 40403
    assert (await filled.call("GET", "/schemas/ids/2")).status_code == 200
    assert await filled.get("/subjects", deleted="true") == ["b"]


async def test_lists_come_in_pages(filled):
    assert await filled.get("/subjects", offset=1) == ["b"]
    assert await filled.get("/subjects", limit=1) == ["a"]
    assert await filled.get("/subjects", offset=5, limit=1) == []
    assert await filled.get("/subjects", subjectPrefix="b") == ["b"]
    assert await filled.get("/subjects", subjectPrefix=":*:") == ["a", "b"]
    assert await filled.get("/subjects/a/versions", offset=1, limit=1) == [2]
    assert await filled.get("/schemas/ids/2/subjects", limit=1) == ["a"]
    assert [row["version"] for row in await filled.get("/schemas", latestOnly="true")] == [2, 1]
    assert await filled.code("GET", "/subjects", limit="x") == 400


async def test_levels_are_none_until_evolution_is_checked(filled):
    assert await filled.get("/config") == {"compatibilityLevel": "NONE"}
    assert await filled.get("/config/a", defaultToGlobal="true") == {"compatibilityLevel": "NONE"}
    assert await filled.code("PUT", "/config", {"compatibility": "BACKWARD"}) == 42205
    assert await filled.code("PUT", "/config/a", {"compatibility": "FULL_TRANSITIVE"}) == 42205
    assert await filled.code("PUT", "/config", {"compatibility": "SIDEWAYS"}) == 42203
    assert await filled.code("PUT", "/config", {}) == 42203
    assert (await filled.call("PUT", "/config/a", {"compatibility": "NONE"})).json() == {"compatibility": "NONE"}
    assert await filled.get("/config/a") == {"compatibilityLevel": "NONE"}
    assert (await filled.call("DELETE", "/config/a")).json() == {"compatibilityLevel": "NONE"}
    assert await filled.code("GET", "/config/a") == 40408
    assert (await filled.call("DELETE", "/config")).json() == {"compatibilityLevel": "NONE"}


async def test_the_compatibility_check_says_that_nothing_was_compared(filled):
    path, body = "/compatibility/subjects/a/versions/latest", {"schema": "true", "schemaType": "JSON"}
    assert (await filled.call("POST", path, body)).json() == {"is_compatible": True}
    said = (await filled.call("POST", path, body, verbose="true")).json()
    assert "nothing was compared" in said["messages"][0]
    assert await filled.code("POST", path, {"schema": '{"type":"strng"}', "schemaType": "JSON"}) == 42201
    assert await filled.code("POST", "/compatibility/subjects/x/versions/1", body) == 40401


@pytest.mark.parametrize("subject", ["a/b", "a%2Fb", "ä ö?#&", "a/versions/1", ":.:a", "com.example-value"])
async def test_any_subject_travels_in_a_path(api, subject):
    path = "".join(f"%{byte:02X}" for byte in subject.encode())
    assert (await api.register(path)).status_code == 200
    name = subject.removeprefix(":.:")
    assert await api.get("/subjects") == [name]
    assert (await api.get(f"/subjects/{path}/versions/1"))["subject"] == name


async def test_a_trailing_slash_and_no_mount_are_fine(filled):
    assert await filled.get("/subjects/") == ["a", "b"]
    transport = httpx.ASGITransport(registry_app(Registry(filled.store)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        assert (await http.get("/subjects")).json() == ["a", "b"]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, V1),
        ("*/*", V1),
        (V1, V1),
        ("application/json", "application/json"),
        ("application/vnd.schemaregistry+json", "application/vnd.schemaregistry+json"),
        (f"{V1}, application/vnd.schemaregistry+json; q=0.9, application/json; q=0.5", V1),
        ("application/json; q=0.5, application/vnd.schemaregistry+json", "application/vnd.schemaregistry+json"),
        ("text/html, application/*;q=0.8", V1),
    ],
)
async def test_the_client_gets_the_media_type_it_prefers(api, accept, media):
    headers = {"accept": accept} if accept else {}
    request = api.http.build_request("GET", "/subjects", headers=headers)
    if accept is None:
        del request.headers["accept"]
    answer = await api.http.send(request)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media)


async def test_media_types_that_are_not_ours_are_refused(api):
    answer = await api.http.get("/subjects", headers={"accept": "text/html"})
    assert (answer.status_code, answer.json()["error_code"]) == (406, 406)
    body = json.dumps({"schema": INTEGER, "schemaType": "JSON"}).encode()
    for media, status in ((V1, 200), ("application/json; charset=utf-8", 200), ("text/plain", 415)):
        answer = await api.http.post("/subjects/a/versions", content=body, headers={"content-type": media})
        assert answer.status_code == status


async def test_a_body_without_end_is_cut_off(api):
    async def endless():
        while True:
            yield b" " * 1_000_000

    answer = await api.http.post("/subjects/a/versions", content=endless(), headers={"content-type": V1})
    assert (answer.status_code, answer.json()["error_code"]) == (413, 413)


async def test_every_change_is_pushed_and_nothing_else(api):
    await api.register("a", INTEGER)
    await api.register("a", INTEGER)
    await api.get("/subjects")
    await api.call("DELETE", "/subjects/a")
    assert [{name: value.version for name, value in push.items()} for push in api.pushed] == [{"a": 1}, {}]


async def test_replicas_over_one_store_see_each_others_changes(api):
    other = Api(api.store)
    await api.register("a", INTEGER)
    assert (await other.register("a", STRING)).json()["version"] == 2
    assert await api.get("/subjects/a/versions") == [1, 2]
    assert (await api.call("GET", "/schemas/ids/2")).status_code == 200
    await other.http.aclose()


async def test_concurrent_registrations_each_get_their_own_version(api):
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(api.register, "a", json.dumps({"title": str(number)}))
    assert await api.get("/subjects/a/versions") == list(range(1, 41))
    assert sorted(row["id"] for row in await api.get("/schemas")) == list(range(1, 41))


class Broken(MemorySchemaStore):
    broken = False

    def revision(self):
        if self.broken:
            raise StorageError("the disk is full; free some space")
        return super().revision()


async def test_while_the_store_is_away_known_ids_are_served_and_the_rest_says_so():
    api = Api(Broken())
    await api.register("a", INTEGER)
    api.store.broken = True
    assert await api.get("/schemas/ids/1") == {"schemaType": "JSON", "schema": INTEGER}
    assert await api.code("GET", "/subjects/a/versions/latest") == 50001
    assert await api.code("POST", "/subjects/a/versions", {"schema": STRING, "schemaType": "JSON"}) == 50001
    api.store.broken = False
    assert await api.get("/subjects/a/versions") == [1]
    await api.http.aclose()


async def test_a_bug_of_ours_is_an_error_body_too():
    class Buggy(MemorySchemaStore):
        def revision(self):
            raise ZeroDivisionError

    api = Api(Buggy())
    assert await api.code("GET", "/subjects") == 500
    await api.http.aclose()


async def test_too_many_waiting_requests_are_refused():
    gate = threading.Event()

    async def slow(call):
        await anyio.to_thread.run_sync(gate.wait)
        return call()

    api = Api(run=slow)
    codes = []

    async def ask():
        answer = await api.call("GET", "/subjects")
        codes.append(answer.status_code)
        if answer.status_code == 429:
            assert answer.json()["error_code"] == 42901
            assert answer.headers["retry-after"] == "1"
            gate.set()

    async with anyio.create_task_group() as tasks:
        for _ in range(REQUESTS_WAITING + 10):
            tasks.start_soon(ask)
    assert codes.count(200) == REQUESTS_WAITING + 1
    assert codes.count(429) == 9
    await api.http.aclose()
