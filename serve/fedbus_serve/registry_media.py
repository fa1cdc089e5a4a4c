"""Media types of the registry's API: which one a client gets, which ones it may send, and how an error looks."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PREFERRED = "application/vnd.schemaregistry.v1+json"
OFFERED = (PREFERRED, "application/vnd.schemaregistry+json", "application/json")
TAKEN = (*OFFERED, "application/octet-stream")


def answer_media(accept: str | None) -> str:
    """The content type to answer with; 406 if the client wants none of ours."""
    if not accept:
        return PREFERRED
    wanted: list[tuple[float, str]] = []
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(p) for p in parameters if p.startswith("q=")), 1.0)
        if weight > 0:
            wanted.append((weight, media))
    for _, media in sorted(wanted, key=lambda pair: -pair[0]):  # stable: of equal weights the first named
        if media in OFFERED:
            return media
        if media in ("*/*", "application/*"):
            return PREFERRED
    raise HTTPException(406, f"Not Acceptable: this API answers {', '.join(OFFERED)}")


def check_body_media(content_type: str | None) -> None:
    """415 unless this is a content type the API takes; an absent one is taken."""
    if content_type and content_type.partition(";")[0].strip().lower() not in TAKEN:
        raise HTTPException(415, f"Unsupported Media Type: send one of {', '.join(OFFERED)}")


def refused(request: Request, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
    """The API's error body."""
    try:
        media = answer_media(request.headers.get("accept"))
    except HTTPException:
        media = PREFERRED
    body = msgspec.json.encode({"error_code": code, "message": message})
    return Response(body, status, headers=headers, media_type=media)


def _weight(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0
