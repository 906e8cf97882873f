"""From the command line to a serving process."""

import importlib
import inspect
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware

from vllm import __version__, checkpoint, guards, kernels, plugins, weights
from vllm import machine as machines
from vllm.api import Api
from vllm.chat import Features
from vllm.checkpoint import LoadError
from vllm.engine import Engine, PrefixCache
from vllm.metrics import Metrics


def log(text: str, source: str, process: str = "APIServer", level: str = "INFO") -> None:
    """A line as vLLM logs it."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    for line in text.splitlines():
        print(f"({process} pid={os.getpid()}) {level} {stamp} [{source}] {line}", file=sys.stderr)
    sys.stderr.flush()


class Handler(logging.Handler):
    """What is logged below "vllm", plugins' lines too, goes where vLLM's own lines go."""

    def emit(self, record: logging.LogRecord) -> None:
        source = f"{record.filename}:{record.lineno}"
        text = logging.Formatter().format(record)  # with the trace, where there is one
        log(text, source, "EngineCore", record.levelname)


def serve(options: Any) -> int:
    """Load, then answer until a signal; 1 when it cannot."""
    logging.getLogger("vllm").addHandler(Handler())
    logging.getLogger("vllm").setLevel(logging.INFO)
    try:
        app, host, port = build(options)
    except LoadError as error:
        log(f"EngineCore failed to start.\n{error}", "core.py:1108", "EngineCore", "ERROR")
        print(
            "RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {}",
            file=sys.stderr,
        )
        return 1
    log(f"Starting vLLM server on http://{host}:{port}", "api_server.py:581")
    config = uvicorn.Config(app, host=host, port=port, log_level="info", access_log=True)
    Server(config, app.engine).run()
    return 0


class Server(uvicorn.Server):
    """On TERM the engine goes first; uvicorn then waits for open connections, as measured."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._engine.dead = True
        super().handle_exit(signal.SIGTERM if sig == signal.SIGTERM else sig, frame)


class Chain:
    """The ASGI application with its engine."""

    def __init__(self, app: Any, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def build(options: Any) -> tuple[Chain, str, int]:
    """Everything up to the port. Raises LoadError."""
    source = options.model_tag or options.model
    check_options(options, source)
    plugins.load_general_plugins()
    here = machines.Machine.here()
    log(f"version {__version__}\nmodel   {source}", "api_utils.py:339")
    begun = time.monotonic()
    trusted = bool(options.trust_remote_code)
    model = checkpoint.read(Path(source), trusted)
    log(f"Resolved architecture: {model.architecture}", "model.py:598")
    machines.check_gpus(here, options, os.environ)
    log(f"Using max model len {machines.check_length(model, options)}", "model.py:1725")
    log(f"Starting to load model {source}...", "gpu_model_runner.py:5160", "EngineCore")
    time.sleep(here.load_s)
    loaded = weights.load(Path(source), options)
    kernels.warm_up(here, model, options, log)
    cache = machines.plan_cache(here, model, options)
    report_load(loaded.total_bytes, cache, time.monotonic() - begun)
    names = tuple(options.served_model_name or [source])
    ranks = options.decode_context_parallel_size
    features = Features(
        names,
        cache.max_length,
        bool(options.enable_auto_tool_choice),
        bool(options.reasoning_parser),
        here.garbage_past if here.garbage_past and ranks > 1 else None,
    )
    metrics = Metrics(names[0], cache_config(options, cache))
    seats = options.max_num_seqs or (256 if "A100" in here.gpu_model else 1024)
    block = int(options.block_size or machines.BLOCK) * ranks
    prefixes = PrefixCache(cache.tokens, block, options.enable_prefix_caching is not False)
    engine = Engine(metrics, seats, here.tokens_per_s, prefixes)
    api = Api(engine, features, source)
    app = wrap(api.app(docs=not options.disable_fastapi_docs), options, metrics)
    return Chain(app, engine), options.host or "0.0.0.0", options.port or 8000


def check_options(options: Any, source: str | None) -> None:
    if not source:
        raise LoadError("ValueError: With `vllm serve`, you should provide the model")
    if options.enable_auto_tool_choice and not options.tool_call_parser:
        raise LoadError("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")


def report_load(weight_bytes: int, cache: machines.Cache, seconds: float) -> None:
    gib = weight_bytes / 2**30
    core = "EngineCore"
    log(
        f"Model loading took {gib:.2f} GiB memory and {seconds:.6f} seconds",
        "gpu_model_runner.py:5255",
        core,
    )
    log(f"Available KV cache memory: {cache.gib:.2f} GiB", "gpu_worker.py:508", core)
    log(f"GPU KV cache size: {cache.tokens:,} tokens", "kv_cache_utils.py:2146", core)
    log(
        f"Maximum concurrency for {cache.max_length:,} tokens per request: "
        f"{cache.tokens / cache.max_length:.2f}x",
        "kv_cache_utils.py:2147",
        core,
    )
    log(
        f"init engine (profile, create kv cache, warmup model) took {seconds:.2f} s "
        "(compilation: 0.00 s)",
        "core.py:337",
        core,
    )


def cache_config(options: Any, cache: machines.Cache) -> dict[str, str]:
    """Labels of vllm:cache_config_info."""
    return {
        "_block_size_resolved": "True",
        "block_size": str(options.block_size or machines.BLOCK),
        "cache_dtype": str(options.kv_cache_dtype or "auto"),
        "enable_prefix_caching": str(options.enable_prefix_caching is not False),
        "gpu_memory_utilization": str(options.gpu_memory_utilization or 0.92),
        "kv_cache_max_concurrency": str(cache.tokens / cache.max_length),
        "kv_cache_memory_bytes": str(options.kv_cache_memory_bytes),
        "kv_cache_size_tokens": str(cache.tokens),
        "num_gpu_blocks": str(cache.tokens // machines.BLOCK),
    }


def wrap(app: Any, options: Any, metrics: Metrics) -> Any:
    """CORS, then the key, then the middlewares of the command line: the last one outermost."""
    app.add_middleware(guards.Count, metrics=metrics)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=options.allowed_origins or ["*"],
        allow_credentials=bool(options.allow_credentials),
        allow_methods=options.allowed_methods or ["*"],
        allow_headers=options.allowed_headers or ["*"],
    )
    keys = [*(options.api_key or []), os.environ.get("VLLM_API_KEY", "")]
    tokens = [key for key in keys if key]
    if options.api_key:
        tokens = list(options.api_key)
    if tokens:
        app.add_middleware(guards.Authentication, tokens=tokens)
    for name in options.middleware:
        add_middleware(app, name)
    return app


def add_middleware(app: Any, name: str) -> None:
    """`module.Class` or `module.function`, as the command line names it."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LoadError(f"{type(error).__name__}: {error}") from error
    if inspect.isclass(found):
        app.add_middleware(found)
    elif inspect.iscoroutinefunction(found):
        app.add_middleware(BaseHTTPMiddleware, dispatch=found)
    else:
        raise LoadError(f"ValueError: Invalid middleware {name}. Must be a function or a class.")
