"""The counters of /metrics, under vLLM's names and labels."""

import bisect
import gc
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
FIRST = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
BETWEEN = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
WHOLE = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0),
    *(240.0, 480.0, 960.0, 1920.0, 7680.0),
)
COUNTERS = (
    *("estimated_flops_per_gpu", "estimated_read_bytes_per_gpu", "estimated_write_bytes_per_gpu"),
    *("prefix_cache_queries", "prefix_cache_hits", "external_prefix_cache_queries"),
    *("external_prefix_cache_hits", "mm_cache_queries", "mm_cache_hits", "num_preemptions"),
    *("prompt_tokens", "prompt_tokens_cached", "generation_tokens"),
)
HISTOGRAMS = {
    "request_prompt_tokens": LENGTHS,
    "request_generation_tokens": LENGTHS,
    "iteration_tokens_total": ITERATION,
    "request_max_num_generation_tokens": LENGTHS,
    "request_params_n": (1, 2, 5, 10, 20),
    "request_params_max_tokens": LENGTHS,
    "time_to_first_token_seconds": FIRST,
    "inter_token_latency_seconds": BETWEEN,
    "request_time_per_output_token_seconds": BETWEEN,
    "e2e_request_latency_seconds": WHOLE,
    "request_queue_time_seconds": WHOLE,
    "request_inference_time_seconds": WHOLE,
    "request_prefill_time_seconds": WHOLE,
    "request_decode_time_seconds": WHOLE,
    "request_prefill_kv_computed_tokens": LENGTHS,
}
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
REASONS = ("stop", "length", "abort", "error", "repetition")
SLEEP = {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}
HIGH_RESOLUTION = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0),
    *(7.5, 10.0, 30.0, 60.0),
)


class Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """`labels` without braces; `le` goes where the alphabet puts it for vLLM's labels."""
        total = 0
        before, _, after = labels.partition(",")
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            total += count
            le = "+Inf" if bound is None else repr(float(bound))
            parts = [part for part in (before, f'le="{le}"', after) if part]
            yield f"{name}_bucket{{{','.join(parts)}}} {float(total)}"
        shown = f"{{{labels}}}" if labels else ""
        yield f"{name}_count{shown} {float(total)}"
        yield f"{name}_sum{shown} {self.sum}"


@dataclass
class Metrics:
    """Everything that /metrics tells. `running`, `waiting`, `cache_usage` are set by the engine."""

    model: str
    cache_config: dict[str, str]
    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    created: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.labels = f'engine="0",model_name="{self.model}"'
        self.counters = dict.fromkeys(COUNTERS, 0.0)
        self.sources = dict.fromkeys(SOURCES, 0.0)
        self.successes = dict.fromkeys(REASONS, 0.0)
        self.histograms = {name: Histogram(bounds) for name, bounds in HISTOGRAMS.items()}
        self.http: dict[tuple[str, str, str], float] = {}
        self.http_time = Histogram(HIGH_RESOLUTION)

    def add(self, name: str, amount: float) -> None:
        self.counters[name] += amount

    def add_source(self, source: str, amount: float) -> None:
        self.sources[source] += amount

    def add_success(self, reason: str) -> None:
        self.successes[reason] += 1

    def observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)

    def add_http(self, key: tuple[str, str, str], seconds: float) -> None:
        """key: handler, method, status class."""
        self.http[key] = self.http.get(key, 0.0) + 1
        self.http_time.observe(seconds)

    def text(self) -> str:
        """The exposition."""
        lines = [*self._process(), *self._gauges(), *self._counters()]
        for name, histogram in self.histograms.items():
            lines += [
                *head(f"vllm:{name}", "histogram"),
                *histogram.lines(f"vllm:{name}", self.labels),
                *self._created(f"vllm:{name}"),
            ]
        config = dict(sorted({"engine": "0", **self.cache_config}.items()))
        inner = ",".join(f'{key}="{value}"' for key, value in config.items())
        lines += [
            *head("vllm:cache_config_info", "gauge"),
            f"vllm:cache_config_info{{{inner}}} 1.0",
        ]
        return "\n".join([*lines, *self._web()]) + "\n"

    def _created(self, name: str) -> Iterator[str]:
        yield from head(f"{name}_created", "gauge")
        yield f"{name}_created{{{self.labels}}} {self.created!r}"

    def _gauges(self) -> Iterator[str]:
        for name, value in (
            ("num_requests_running", self.running),
            ("num_requests_waiting", self.waiting),
        ):
            yield from head(f"vllm:{name}", "gauge")
            yield f"vllm:{name}{{{self.labels}}} {float(value)}"
        yield from head("vllm:num_requests_waiting_by_reason", "gauge")
        for reason, value in (("capacity", self.waiting), ("deferred", 0)):
            labels = f'{self.labels},reason="{reason}"'
            yield f"vllm:num_requests_waiting_by_reason{{{labels}}} {float(value)}"
        yield from head("vllm:engine_sleep_state", "gauge")
        for state, value in SLEEP.items():
            yield f'vllm:engine_sleep_state{{{self.labels},sleep_state="{state}"}} {value}'
        yield from head("vllm:kv_cache_usage_perc", "gauge")
        yield f"vllm:kv_cache_usage_perc{{{self.labels}}} {float(self.cache_usage)}"

    def _counters(self) -> Iterator[str]:
        for name, value in self.counters.items():
            yield from head(f"vllm:{name}_total", "counter")
            yield f"vllm:{name}_total{{{self.labels}}} {value}"
            yield from self._created(f"vllm:{name}")
        yield from self._labelled("prompt_tokens_by_source", "source", self.sources)
        yield from self._labelled("request_success", "finished_reason", self.successes)

    def _labelled(self, name: str, label: str, values: dict[str, float]) -> Iterator[str]:
        """A counter with one more label, and when each of its series began."""
        for suffix, kind in (("total", "counter"), ("created", "gauge")):
            yield from head(f"vllm:{name}_{suffix}", kind)
            for key, value in values.items():
                own = {"engine": "0", label: key, "model_name": self.model}
                labels = ",".join(f'{n}="{v}"' for n, v in sorted(own.items()))
                shown = value if suffix == "total" else self.created
                yield f"vllm:{name}_{suffix}{{{labels}}} {shown}"

    def _process(self) -> Iterator[str]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        for name, key in (
            ("objects_collected", "collected"),
            ("objects_uncollectable", "uncollectable"),
            ("collections", "collections"),
        ):
            yield from head(f"python_gc_{name}_total", "counter")
            for generation, stats in enumerate(gc.get_stats()):
                yield f'python_gc_{name}_total{{generation="{generation}"}} {float(stats[key])}'
        major, minor, patch = platform.python_version_tuple()
        yield from head("python_info", "gauge")
        yield (
            f'python_info{{implementation="CPython",major="{major}",minor="{minor}",'
            f'patchlevel="{patch}",version="{platform.python_version()}"}} 1.0'
        )
        for name, kind, number in (
            ("virtual_memory_bytes", "gauge", usage.ru_maxrss * 1024.0),
            ("resident_memory_bytes", "gauge", usage.ru_maxrss * 1024.0),
            ("start_time_seconds", "gauge", self.created),
            ("cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
            ("open_fds", "gauge", float(len(os.listdir("/proc/self/fd")))),
            ("max_fds", "gauge", float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])),
        ):
            yield from head(f"process_{name}", kind)
            yield f"process_{name} {number}"

    def _web(self) -> Iterator[str]:
        yield from head("http_requests_total", "counter")
        for (handler, method, status), count in self.http.items():
            labels = f'handler="{handler}",method="{method}",status="{status}"'
            yield f"http_requests_total{{{labels}}} {count}"
        yield from head("http_request_duration_highr_seconds", "histogram")
        yield from self.http_time.lines("http_request_duration_highr_seconds", "")


def head(name: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {name.rpartition(':')[2].replace('_', ' ')}"
    yield f"# TYPE {name} {kind}"
