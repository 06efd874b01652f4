"""How the control API says what went wrong: problem details (RFC 9457), with a code of ours."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from spooky.config.problems import ConfigurationError
from spooky.control.access import CALLER
from spooky.control.answers import Problem
from spooky.control.backend_acts import WrongStateError
from spooky.control.change import (
    ChangeError,
    NotNowError,
    StaleError,
    UnknownBackendError,
    UnknownGenerationError,
)
from spooky.control.endpoints import STATUS
from spooky.control.history import HistoryError
from spooky.control.lives import UnknownRequestError
from spooky.control.roles import DeniedError, Role
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)

CODE: Final = web.ResponseKey("code", str)
"""What went wrong, at the answer that says so."""

RETRY_SECONDS: Final = 1
"""When to ask again who asked while it starts, or was handed over."""

# RFC 9110 section 11.6.1: a 401 names what is missing. Browsers ask people only for the other, and
# only where it stands alone.
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_PAGE_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Spooky", charset="UTF-8"'}

# The code is that of the error, if it has one.
_CHANGE_ERRORS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (MaterialError, 400, "invalid"),
    (UnknownGenerationError, 404, ""),
    (UnknownBackendError, 404, ""),
    (UnknownRequestError, 404, "unknown_request"),
    (WrongStateError, 409, ""),
    (StaleError, 412, ""),
    (ChangeError, 500, ""),
    (HistoryError, 500, "not_changed"),
)


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what a handler raises."""
    try:
        return await handler(request)
    except DeniedError as error:
        challenge = _PAGE_CHALLENGE if request.path.startswith(STATUS) else _CHALLENGE
        headers = challenge if error.status == 401 else None
        return problem(error.status, error.code, str(error), headers)
    except NotNowError as error:
        return problem(503, error.code, str(error), {"Retry-After": str(RETRY_SECONDS)})
    except ConfigurationError as error:
        # The text may hold what only who may name files on this machine can read anyway.
        text = error.source if request[CALLER].role is Role.ADMIN else ""
        problems = list(error.problems)
        return problem(400, "invalid", "the configuration has errors", problems=problems, text=text)
    except tuple(kind for kind, _, _ in _CHANGE_ERRORS) as error:
        status, code = next(
            (status, code) for kind, status, code in _CHANGE_ERRORS if isinstance(error, kind)
        )
        return problem(status, getattr(error, "code", code), str(error))
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(error.status, "refused", error.text or error.reason, allow)
    except Exception:
        # The boundary to the client: a defect is ours, and is answered as one.
        logger.exception("cannot answer %s %s", request.method, request.path)
        return problem(500, "defect", "a defect of Spooky; its log says more")


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    problems: list[Any] | None = None,
    text: str = "",
) -> web.Response:
    """Return an answer that says what went wrong."""
    title = HTTPStatus(status).phrase
    value = Problem(
        type="about:blank", title=title, status=status, code=code, detail=detail,
        problems=problems or [], text=text,
    )  # fmt: skip
    response = json_answer(value, status, headers, "application/problem+json")
    response[CODE] = code
    return response


def json_answer(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    """Return an answer."""
    return web.Response(
        body=msgspec.json.encode(value) + b"\n",
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type=content_type,
    )
