# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP endpoint: `POST /score` and `GET /health`."""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from real_trl import __version__
from real_trl.engines import Judgment
from real_trl.evaluation.unscored import UNSCORED, grouped_reasons
from real_trl.judge import Judge
from real_trl.option_values import FieldError, check_numbers
from real_trl.serving.batching import Batcher, Busy, JudgingFailed, PromptTooLong
from real_trl.serving.guard import SMALL_BODY_BYTES, Guard
from real_trl.serving.wire import Refused, RowReader, Score, ScoreRequest, Scores

_HELD_BODIES = 64
_CLIENT_CLOSED_REQUEST = 499  # nobody reads it, but the access log shows it


@dataclass(frozen=True)
class Limits:
    """
    What a request may ask for.

    Args:
        max_body_bytes (`int`, *optional*, defaults to 1 MiB):
            Longest body.
        max_rows (`int`, *optional*, defaults to `64`):
            Rows in one request.
        max_waiting (`int`, *optional*, defaults to `256`):
            Rows of all requests that wait for the engine.
        max_prompt_bytes (`int`, *optional*):
            Longest prompt; see [`~real_trl.serving.fields.check_size`] for the default.
        max_held_bytes (`int`, *optional*):
            Bytes of all bodies above 64 KiB that are not answered yet. By default 64 times `max_body_bytes`.
        request_timeout (`float`, *optional*, defaults to `300`):
            Seconds until a request is answered with 504.
        body_timeout (`float`, *optional*, defaults to `30`):
            Seconds in which the body of a request has to arrive.

    Raises:
        `ValueError`: naming the field, if one has an impossible value.
    """

    max_body_bytes: int = 2**20
    max_rows: int = 64
    max_waiting: int = 256
    request_timeout: float = 300.0
    body_timeout: float = 30.0
    max_prompt_bytes: int | None = None
    max_held_bytes: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.max_rows > self.max_waiting:
            said = f": got {self.max_rows}, but no more than max_waiting={self.max_waiting} may wait, so that such a request would never be taken"
            raise FieldError("max_rows", self.max_rows, "Lower max_rows, or raise max_waiting.", said)
        if self.max_held_bytes is not None and self.max_held_bytes < self.max_body_bytes:
            said = f": got {self.max_held_bytes}, less than max_body_bytes={self.max_body_bytes}, so that such a body would never be taken"
            raise FieldError("max_held_bytes", self.max_held_bytes, "Raise it, or lower max_body_bytes.", said)


def create_app(judge: Judge, batcher: Batcher, name: str, limits: Limits, key: str | None = None) -> FastAPI:
    """
    The application.

    Args:
        judge ([`Judge`]):
            The judge; used for its prompts and scale only.
        batcher ([`Batcher`]):
            Where its engine runs.
        name (`str`):
            What `/health` calls the judge.
        limits ([`Limits`]):
            What a request may ask for.
        key (`str`, *optional*):
            Required as `Authorization: Bearer <key>`, except at `/health`.
    """
    # The pages that FastAPI has for its documentation load scripts from elsewhere; openapi.json remains
    app = FastAPI(title="real_trl judge", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(
        Guard,
        key=key,
        max_body_bytes=limits.max_body_bytes,
        body_timeout=limits.body_timeout,
        max_held_bytes=limits.max_held_bytes or _HELD_BODIES * limits.max_body_bytes,
    )
    reader = RowReader(judge, limits.max_rows, limits.max_prompt_bytes)
    reading = CapacityLimiter(2)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> JSONResponse:
        return await refused(
            request, Refused(error.status_code, f"{error.detail}. There are POST /score and GET /health.")
        )

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return await refused(request, Refused(500, f"{type(error).__name__}; the server's log says more."))

    # A reference would point to the root of openapi.json, where pydantic's definitions are not
    schema = ScoreRequest.model_json_schema()
    schema["properties"]["rows"]["anyOf"][0]["items"] = schema.pop("$defs")["Row"]
    body = {"required": True, "content": {"application/json": {"schema": schema}}}

    @app.post("/score", response_model=Score | Scores, openapi_extra={"requestBody": body})
    async def score(request: Request) -> Score | Scores | Response:
        """
        Scores a row, or several under `rows`. Where the engine gives no answer to some of them, these have the status `unscored` and an
        `error`; where it gives none at all, the status of the answer is 502.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the body has to be JSON. Send it as application/json.", "Content-Type")
        content = await request.body()
        if len(content) <= SMALL_BODY_BYTES:
            prompts, single = reader.read(content)
        else:  # takes long enough for others to notice
            prompts, single = await to_thread.run_sync(reader.read, content, limiter=reading)
        try:
            judgments = await _answer(request, batcher.submit(prompts), limits.request_timeout)
        except Busy as error:
            raise Refused(503, str(error), headers={"Retry-After": str(error.retry_after)}) from None
        except PromptTooLong as error:
            raise Refused(413, str(error), "prompt") from None
        except JudgingFailed as error:
            raise Refused(500, str(error)) from None
        if judgments is None:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        if all(judgment.status == UNSCORED for judgment in judgments):
            reasons = "; ".join(grouped_reasons(judgment.error or "" for judgment in judgments))
            raise Refused(502, f"the judge's engine gave no answer that can be scored: {reasons}")
        if judge.calibration and judge.calibration.intervals.column:  # engine and batches know no groups
            groups = reader.groups(content)
            judgments = [judge.calibrated(*each) for each in zip(judgments, groups, strict=True)]
        scores = [Score.of(judgment, judge.labels) for judgment in judgments]
        return scores[0] if single else Scores(scores=scores)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether requests are taken, by which judge, and on which scale. Needs no key."""
        ready = batcher.ready
        scale: dict[str, Any] = {"labels": list(judge.labels), "values": list(judge.values)}
        answer = {"ready": ready, "judge": name, "scale": scale, "fields": reader.fields, "waiting": batcher.waiting}
        if judge.criteria:  # with the rubric of each
            answer["criteria"] = judge.criteria
        return JSONResponse(answer, 200 if ready else 503)

    return app


async def _answer(request: Request, future: "Future[list[Judgment]]", timeout: float) -> list[Judgment] | None:
    """The judgments; `None` if the client hangs up before they are there."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.create_task(_disconnected(request))
    try:
        done, _ = await asyncio.wait({answer, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            return answer.result()
        if gone in done:
            return None
        raise Refused(504, f"it was not judged within {timeout:g} s. Send less, or try again later.")
    finally:
        gone.cancel()
        answer.cancel()  # nothing if it is there; else the engine skips what it has not begun


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
