# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP endpoints: scores and rewards, OpenAI's chat completions, health and metrics."""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from real_trl import __version__
from real_trl.judge import Judge
from real_trl.option_values import FieldError, check_numbers
from real_trl.serving.batching import Batcher
from real_trl.serving.chat import ChatReader, completion, models
from real_trl.serving.guard import Guard
from real_trl.serving.judging import Judging
from real_trl.serving.metrics import Measured, Metrics
from real_trl.serving.wire import Refused, Reward, Rewards, RowReader, Score, ScoreRequest, Scores

_HELD_BODIES = 64
_THERE_ARE = "There are POST /score, /v1/grader and /v1/chat/completions, and GET /health, /v1/models and /metrics."


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
            What the judge is called at `/health`, and as a model of `/v1`.
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
    chat, since, metrics = ChatReader(reader, name), int(time.time()), Metrics(batcher)
    judging = Judging(batcher, limits.request_timeout, metrics)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> JSONResponse:
        return await refused(request, Refused(error.status_code, f"{error.detail}. {_THERE_ARE}"))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return await refused(request, Refused(500, f"{type(error).__name__}; the server's log says more."))

    # A reference would point to the root of openapi.json, where pydantic's definitions are not
    schema = ScoreRequest.model_json_schema()
    schema["properties"]["rows"]["anyOf"][0]["items"] = schema.pop("$defs")["Row"]
    body = {"required": True, "content": {"application/json": {"schema": schema}}}

    async def scores_of(request: Request) -> tuple[list[Score], bool]:
        """The scores of a request's rows, and whether it was one row rather than a list."""

        def read(content: bytes) -> tuple[list[str], bool, list[str | None]]:
            return *reader.read(content), reader.groups(content)

        prompts, single, groups = await judging.read(request, read)
        return [Score.of(each) for each in await judging.judge(request, prompts, groups)], single

    @app.post("/score", response_model=Score | Scores, openapi_extra={"requestBody": body})
    async def score(request: Request) -> Score | Scores:
        """
        Scores a row, or several under `rows`. Where the engine gives no answer to some of them, these have the status `unscored` and an
        `error`; where it gives none at all, the status of the answer is 502.
        """
        scores, single = await scores_of(request)
        return scores[0] if single else Scores(scores=scores)

    @app.post("/v1/grader", response_model=Reward | Rewards, openapi_extra={"requestBody": body})
    async def grader(request: Request) -> Reward | Rewards:
        """
        Rewards between 0 and 1, the worst and the best score of the scale, for the same requests as `/score`. A row without a score makes
        the whole answer an error, with status 502.
        """
        scores, single = await scores_of(request)
        for place, each in enumerate(scores):
            if each.expected_score is None:
                why = f"it has no score: {each.error or f'the completion shows none ({each.status})'}. Leave it out, or try again."
                raise Refused(502, why, None if single else f"rows[{place}]")
        rewards = [judge.engine.score_space.scale.reward(each.expected_score) for each in scores]
        if single:
            return Reward(reward=rewards[0], score=scores[0])
        return Rewards(rewards=rewards, scores=scores)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> JSONResponse:
        """OpenAI's chat completion: one user message with the judge's complete prompt, or `row` with the fields of its template."""
        asked = await judging.read(request, chat.read)
        (judgment,) = await judging.judge(request, [asked.prompt], [asked.group])
        return JSONResponse(completion(judgment, chat))

    @app.get("/v1/models")
    async def list_models() -> JSONResponse:
        """OpenAI's list of models: the judge."""
        return JSONResponse(models(chat, since))

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Figures of the service in Prometheus' text format."""
        return metrics.page()

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether requests are taken, by which judge, and on which scale. Needs no key."""
        ready = batcher.ready
        scale: dict[str, Any] = {"labels": list(judge.labels), "values": list(judge.values)}
        answer = {"ready": ready, "judge": name, "scale": scale, "fields": reader.fields, "waiting": batcher.waiting}
        if judge.criteria:  # with the rubric of each
            answer["criteria"] = judge.criteria
        return JSONResponse(answer, 200 if ready else 503)

    paths = [path for route in app.routes if (path := getattr(route, "path", None))]
    # Added last, so that it sees what the guard refuses
    app.add_middleware(Measured, metrics=metrics, endpoints=paths)
    return app
