"""``fedbus schema``: register, list, show, check, configure and delete schemas, through the gateway's registry.

Speaks the registry's HTTP API (Confluent's shape, under ``/registry``). ``check`` fetches the schema and validates
here, with the very code that gateway and client use when publishing. Exit status 1: refused, unreachable, or data that
does not fit.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import IO, Any
from urllib.parse import quote

import click
import httpx
import msgspec
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from fedbus.schema.document import JSON, parse_document
from fedbus.schema.refusal import RegistryError
from fedbus.schema.validation import Problem, Validator

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0
_MEDIA = "application/vnd.schemaregistry.v1+json"
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")


class _Registry:
    """The registry at the gateway's address; every failure becomes one sentence for the terminal."""

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/") + "/registry"

    def call(self, method: str, path: str, *, body: dict[str, Any] | None = None, **query: str) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": _MEDIA, "Content-Type": _MEDIA}
        url = self._base + path
        try:
            answer = httpx.request(method, url, content=content, params=query, headers=headers, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail = (
                f"cannot reach the registry at {self._base}: {error}. Is `fedbus up` running? Choose another with --url"
            )
            raise click.ClickException(detail) from error
        try:
            value = msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            detail = f"{self._base} answered {answer.status_code} and no JSON: that is no fedbus gateway; check --url"
            raise click.ClickException(detail) from error
        if answer.is_success:
            return value
        message = value.get("message", value.get("detail", value)) if isinstance(value, dict) else value
        raise click.ClickException(f"{message} (the registry at {self._base} answered {answer.status_code})")

    def version(self, subject: str, version: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"{_subject(subject)}/versions/{quote(version, safe='')}")
        return found


def _subject(subject: str) -> str:
    return f"/subjects/{quote(subject, safe='')}"


def _registry(ctx: click.Context) -> _Registry:
    """The registry at the address given to ``fedbus``; run on its own, this group reads ``FEDBUS_URL``."""
    if getattr(ctx.obj, "url", None) is None:
        ctx.obj = SimpleNamespace(url=os.environ.get("FEDBUS_URL", DEFAULT_URL))
    return _Registry(ctx.obj.url)


def _print_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


@click.group()
def schema() -> None:
    """Schemas that events have to fit: register, list, show, check, config, delete."""


@schema.command()
@click.argument("subject")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@_as_json
@click.pass_context
def register(ctx: click.Context, subject: str, file: IO[str], *, as_json: bool) -> None:
    """Register the JSON Schema in FILE (- for standard input) as the newest version of SUBJECT.

    Data of topic T is checked against subject T-value, unless the topic's policy names another.
    """
    body = {"schema": _text(file), "schemaType": JSON}
    done = _registry(ctx).call("POST", f"{_subject(subject)}/versions", body=body)
    if as_json:
        _print_json({"subject": subject, "version": done.get("version"), "id": done["id"]})
    else:
        click.echo(f"{subject} version {done.get('version', '?')} is schema id {done['id']}")


@schema.command("list")
@click.option("--deleted", is_flag=True, help="Also subjects and versions that were deleted and can still be read.")
@_as_json
@click.pass_context
def list_subjects(ctx: click.Context, *, deleted: bool, as_json: bool) -> None:
    """List subjects with their newest version."""
    rows = _registry(ctx).call("GET", "/schemas", latestOnly="true", deleted=str(deleted).lower())
    if as_json:
        _print_json([{key: row[key] for key in ("subject", "version", "id", "schemaType")} for row in rows])
        return
    _print_table(
        ("subject", "newest version", "schema id", "type"),
        [(row["subject"], row["version"], row["id"], row["schemaType"]) for row in rows],
    )


@schema.command()
@click.argument("subject")
@click.option("--version", default="latest", show_default=True, help="A version's number.")
@_as_json
@click.pass_context
def show(ctx: click.Context, subject: str, version: str, *, as_json: bool) -> None:
    """Show a version of SUBJECT and its schema."""
    found = _registry(ctx).version(subject, version)
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found['subject']} version {found['version']}, schema id {found['id']}, {found['schemaType']}")
    Console().print(Syntax(msgspec.json.format(found["schema"], indent=2), "json", word_wrap=True))


@schema.command()
@click.argument("subject")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@click.option("--version", default="latest", show_default=True, help="A version's number.")
@click.option("--lines", is_flag=True, help="FILE holds one JSON value per line (NDJSON).")
@_as_json
@click.pass_context
def check(ctx: click.Context, subject: str, file: IO[str], version: str, *, lines: bool, as_json: bool) -> None:
    """Check the JSON data in FILE (- for standard input) against SUBJECT. Exit status 1 if it does not fit."""
    found = _registry(ctx).version(subject, version)
    try:
        validator = Validator(parse_document(found["schema"]))
    except RegistryError as error:
        raise click.ClickException(f"{subject} version {found['version']}: {error.detail}") from error
    text = _text(file)
    values = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()] if lines else [(1, text)]
    wrong: list[tuple[int, Problem]] = [(n, p) for n, value in values for p in validator.problems(value.encode())]
    if as_json:
        problems = [{"line": n, "pointer": p.pointer, "message": p.message} for n, p in wrong]
        _print_json({"subject": subject, "version": found["version"], "valid": not wrong, "problems": problems})
    elif wrong:
        _print_table(("line", "where", "what"), [(n, p.pointer or "(root)", p.message) for n, p in wrong])
    else:
        click.echo(f"{len(values)} value(s) fit {subject} version {found['version']}")
    if wrong:
        ctx.exit(1)


@schema.command()
@click.argument("subject", required=False)
@click.option("--set", "level", help="Set the compatibility level (only NONE until evolution checks exist).")
@click.option("--unset", is_flag=True, help="Take the setting away; the default holds again.")
@_as_json
@click.pass_context
def config(ctx: click.Context, subject: str | None, level: str | None, *, unset: bool, as_json: bool) -> None:
    """Show or set the compatibility level of SUBJECT, or of the whole registry."""
    if level is not None and unset:
        raise click.UsageError("--set and --unset exclude each other")
    path = "/config" if subject is None else f"/config/{quote(subject, safe='')}"
    registry = _registry(ctx)
    if level is not None:
        registry.call("PUT", path, body={"compatibility": level})
    elif unset:
        registry.call("DELETE", path)
    now = registry.call("GET", path, defaultToGlobal="true")["compatibilityLevel"]
    if as_json:
        _print_json({"subject": subject, "compatibilityLevel": now})
    else:
        click.echo(f"{subject or 'all subjects'}: compatibility {now}")


@schema.command()
@click.argument("subject")
@click.option("--version", help="Only this version.")
@click.option("--permanent", is_flag=True, help="Remove for good what was deleted before.")
@_as_json
@click.pass_context
def delete(ctx: click.Context, subject: str, version: str | None, *, permanent: bool, as_json: bool) -> None:
    """Delete SUBJECT or one version: it is no longer used for checks, and stays readable by id until --permanent."""
    path = _subject(subject) if version is None else f"{_subject(subject)}/versions/{quote(version, safe='')}"
    done = _registry(ctx).call("DELETE", path, permanent=str(permanent).lower())
    versions = done if isinstance(done, list) else [done]
    if as_json:
        _print_json({"subject": subject, "versions": versions, "permanent": permanent})
    else:
        listed = ", ".join(str(number) for number in versions)
        click.echo(f"deleted {subject} version {listed}{' for good' if permanent else ''}")


def _text(file: IO[str]) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file.name} is not UTF-8: {error}") from error
