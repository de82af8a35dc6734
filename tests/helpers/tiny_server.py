# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server around a tiny Transformers model, on the loopback address: what it answers is computed."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL_NAME = "tiny-judge"


class TinyServer:
    """
    The plain API: text in, text and the most likely tokens out. With `extensions` also token ids in, and chosen tokens out,
    as vLLM does it; with `processed`, after top-p. `failures` are statuses to answer the next requests with ("drop" closes
    the connection), `requests` and `bodies` are what came in, `busiest` is the most requests at a time.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        key: str | None = None,
        context_length: int | None = None,
        most_logprobs: int = 20,
        with_logprobs: bool = True,
        extensions: bool = False,
        processed: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.key = model, tokenizer, key
        self.context_length, self.most_logprobs, self.with_logprobs = context_length, most_logprobs, with_logprobs
        self.extensions, self.processed = extensions, processed
        self.failures, self.requests, self.bodies = [], [], []
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    def answer(self, path: str, authorization: str | None, body: dict | None) -> tuple[int, dict]:
        if self.failures:
            return self.failures.pop(0), {"error": {"message": "not now"}}
        if self.key is not None and authorization != f"Bearer {self.key}":
            return 401, {"error": {"message": f"Incorrect API key provided: {authorization}"}}
        if path == "/v1/models":
            entry = {"id": MODEL_NAME, "max_model_len": self.context_length}
            return 200, {"data": [entry, {"id": "other"}]}
        if path not in {"/v1/completions", "/v1/chat/completions"}:
            return 404, {"error": {"message": "Not Found"}}
        if body["model"] != MODEL_NAME:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        chat = path.endswith("chat/completions")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        if not (isinstance(prompt, str) or self.extensions):
            return 400, {"error": {"message": "prompt: must be a string"}}
        if len(body.get("logprob_token_ids", [])) > 128:
            return 400, {"error": {"message": "logprob_token_ids: at most 128"}}
        number = body["top_logprobs"] if chat else body["logprobs"]
        if number > self.most_logprobs:
            return 400, {"error": {"message": f"logprobs: at most {self.most_logprobs}"}}
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        if self.context_length is not None and len(ids) + body["max_tokens"] > self.context_length:
            return 400, {"error": {"message": f"This model's maximum context length is {self.context_length} tokens."}}
        return 200, self.generate(ids, body, number, chat)

    @torch.no_grad()
    def generate(self, prompt_ids: list[int], body: dict, number: int, chat: bool) -> dict:
        generator = torch.Generator().manual_seed(body.get("seed", 0))
        ids, steps, finished = [], [], False
        while len(ids) < body["max_tokens"] and not finished:
            log_probs = self.model(torch.tensor([prompt_ids + ids])).logits[0, -1].double().log_softmax(-1)
            if body["temperature"] == 0:
                token = int(log_probs.argmax())
            else:
                token = int(torch.multinomial(log_probs.exp(), 1, generator=generator))
            ids.append(token)
            if chosen := body.get("logprob_token_ids") if self.extensions else None:
                shown = log_probs
                if self.processed and body.get("top_p", 1) < 1:  # as small as it is, one token is left over
                    shown = torch.full_like(shown, -9999.0)
                    shown[token] = 0.0
                names = dict.fromkeys([token, *chosen])
                steps.append((f"token_id:{token}", 0.0, [(f"token_id:{i}", shown[i].item()) for i in names]))
            else:
                best = log_probs.topk(number)
                top = [(self.piece(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
                steps.append((self.piece(token), log_probs[token].item(), top))
            finished = token == self.tokenizer.eos_token_id
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(ids)}
        reason = "stop" if finished else "length"
        if not self.with_logprobs:
            choice = {"message": {"content": text}} if chat else {"text": text}
        elif chat:
            content = [
                {
                    "token": name,
                    "logprob": log_prob,
                    "bytes": list(name.encode()),
                    "top_logprobs": [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in top],
                }
                for name, log_prob, top in steps
            ]
            choice = {"message": {"role": "assistant", "content": text}, "logprobs": {"content": content}}
        else:
            names, log_probs, top = zip(*steps, strict=True)
            log_probs = {"tokens": names, "token_logprobs": log_probs, "top_logprobs": [dict(t) for t in top]}
            choice = {"text": text, "logprobs": log_probs}
        if self.extensions and body.get("return_token_ids"):
            choice["token_ids"] = ids
        return {"choices": [{**choice, "finish_reason": reason}], "usage": usage}

    def piece(self, token: int) -> str:
        text = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        raw = self.tokenizer.convert_ids_to_tokens(token)
        return f" {text}" if raw.startswith("▁") and not text.startswith(" ") else text


@contextmanager
def serve(server: TinyServer) -> Iterator[str]:
    """Runs the server in a thread; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def handle_request(self) -> None:
            size = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            with server.lock:
                server.requests.append(self.path)
                server.bodies.append(body)
                server.busy += 1
                server.busiest = max(server.busiest, server.busy)
            try:
                if server.failures and server.failures[0] == "drop":
                    server.failures.pop(0)
                    self.close_connection = True
                    return
                status, answer = server.answer(self.path, self.headers.get("authorization"), body)
            finally:
                with server.lock:
                    server.busy -= 1
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_request

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/v1"
        finally:
            http.shutdown()
            thread.join()
