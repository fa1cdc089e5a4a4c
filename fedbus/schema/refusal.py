"""What the registry answers when it says no: typed errors that carry Confluent's ``error_code``.

The codes are those of Confluent Schema Registry (``40401`` …), because existing clients branch on them; the HTTP status
is their first three digits. Messages keep Confluent's opening words and add what to do.
"""

from __future__ import annotations

from typing import ClassVar

from fedbus.errors import Culprit, FedbusError


class RegistryError(FedbusError):
    """A refusal of the schema registry; ``error_code`` is Confluent's."""

    code = "schema_registry"
    culprit: ClassVar[Culprit] = "caller"
    http_status = 422

    def __init__(self, detail: str, *, retry_after_ms: int = 0, error_code: int = 50001) -> None:
        super().__init__(detail, retry_after_ms=retry_after_ms)
        self.error_code = error_code


class InvalidSchemaError(RegistryError):
    """A schema that cannot be used; ``pointer`` is the place in the schema (JSON Pointer, empty for the whole)."""

    code = "invalid_schema"

    def __init__(self, reason: str, *, retry_after_ms: int = 0, pointer: str = "") -> None:
        where = f" at {pointer}" if pointer else ""
        super().__init__(f"Invalid schema{where}: {reason}", retry_after_ms=retry_after_ms, error_code=42201)
        self.pointer = pointer
        self.reason = reason


class ContendedError(RegistryError):
    """Other writers were faster several times in a row; nothing was changed."""

    code = "schema_registry_contended"
    culprit = "environment"
    retryable = True
    http_status = 500


def schema_too_large(size_bytes: int, limit_bytes: int) -> RegistryError:
    """A schema text beyond its limit."""
    detail = f"Schema too large: {size_bytes} bytes, at most {limit_bytes}; split it, or drop examples and descriptions"
    return RegistryError(detail, error_code=42209)


def subject_not_found(subject: str) -> RegistryError:
    """No version of this subject is there."""
    return RegistryError(f"Subject '{subject}' not found.", error_code=40401)


def version_not_found(version: int) -> RegistryError:
    """The subject is there, this version is not."""
    return RegistryError(f"Version {version} not found.", error_code=40402)


def schema_not_found(schema_id: int | None = None) -> RegistryError:
    """No schema has this id, or the subject does not hold this schema."""
    detail = "Schema not found" if schema_id is None else f"Schema {schema_id} not found"
    return RegistryError(detail, error_code=40403)


def subject_soft_deleted(subject: str) -> RegistryError:
    """Deleting a second time needs ``permanent=true``."""
    detail = f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently"
    return RegistryError(detail, error_code=40404)


def subject_not_soft_deleted(subject: str) -> RegistryError:
    """A permanent deletion comes after an ordinary one."""
    detail = f"Subject '{subject}' was not deleted first before being permanently deleted"
    return RegistryError(detail, error_code=40405)


def version_soft_deleted(subject: str, version: int) -> RegistryError:
    """Deleting a second time needs ``permanent=true``."""
    detail = f"Subject '{subject}' Version {version} was soft deleted. Set permanent=true to delete permanently"
    return RegistryError(detail, error_code=40406)


def version_not_soft_deleted(subject: str, version: int) -> RegistryError:
    """A permanent deletion comes after an ordinary one."""
    detail = f"Subject '{subject}' Version {version} was not deleted first before being permanently deleted"
    return RegistryError(detail, error_code=40407)


def compatibility_not_configured(subject: str) -> RegistryError:
    """The subject follows the global level."""
    detail = f"Subject '{subject}' does not have subject-level compatibility configured"
    return RegistryError(detail, error_code=40408)


def mode_not_configured(subject: str) -> RegistryError:
    """The subject follows the global mode."""
    return RegistryError(f"Subject '{subject}' does not have subject-level mode configured", error_code=40409)


def invalid_version(text: str) -> RegistryError:
    """A version in a path that is no version."""
    detail = (
        f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1] "
        'and the string "latest"'
    )
    return RegistryError(detail, error_code=42202)


def invalid_compatibility(level: str, levels: tuple[str, ...]) -> RegistryError:
    """A word that names no compatibility level."""
    detail = f"Invalid compatibility level {level!r}. Valid values are {', '.join(levels)}"
    return RegistryError(detail, error_code=42203)


def invalid_mode(mode: str) -> RegistryError:
    """A word that names no mode."""
    return RegistryError(f"Invalid mode {mode!r}. This registry is always READWRITE", error_code=42204)


def not_permitted(detail: str) -> RegistryError:
    """Well-formed, and something this registry does not do."""
    return RegistryError(detail, error_code=42205)


def invalid_subject(subject: str, reason: str) -> RegistryError:
    """A name no subject may have."""
    return RegistryError(f"The specified subject {subject[:80]!r} is not a valid subject: {reason}", error_code=42208)


def contended(attempts: int) -> ContendedError:
    """The compare-and-swap was lost too often."""
    detail = f"Operation timed out: {attempts} times another writer was faster; nothing was changed, try again"
    return ContendedError(detail, error_code=50002, retry_after_ms=200)
