"""The parts of a model on this processor by different engines, one after another in one run:

    python benchmarks/backends.py [embedded name or weight file] [--repeats 9]

One window: PyTorch eager with contiguous and with channels_last memory (what `Upscaler` does), bfloat16, int8 (dynamic,
linear layers), torch.compile, ONNX Runtime, and OpenVINO if it is installed. Milliseconds, the best of the repeats; the
largest difference from eager in floats, or the share of codes that are others.
"""

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import realsrt
from realsrt.checkpoint import onnx

Call = Callable[[], Any]


def first(x: Any) -> torch.Tensor:
    x = x[0] if isinstance(x, tuple | list) else x
    return torch.as_tensor(x)


def onnx_runtime(path: Path, feed: dict[str, Any]) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    some = {entry.name: feed[entry.name].numpy() for entry in session.get_inputs()}
    return lambda: session.run(None, some)


def openvino(path: Path, feed: dict[str, Any]) -> Call:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    some = {port: feed[next(n for n in port.get_names() if n in feed)].numpy() for port in compiled.inputs}
    return lambda: list(compiled(some).values())


def engines(model: Any, name: str, path: Path, feed: dict[str, torch.Tensor]) -> dict[str, Callable[[], Call]]:
    """How to make each engine's call, by the engine's name."""
    part_class = onnx._GuidePart if name == "guide" else onnx.PARTS[name][0]
    inputs = tuple(feed.values())

    def eager(model: Any, memory: torch.memory_format = torch.contiguous_format) -> Call:
        part = part_class(copy.deepcopy(model).to(memory_format=memory))
        return lambda: part(*inputs)

    def bf16() -> Call:
        plain = eager(model, torch.channels_last)

        def call() -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return plain()

        return call

    def int8() -> Call:
        return eager(torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, torch.qint8))

    def compiled() -> Call:
        part = torch.compile(part_class(copy.deepcopy(model).to(memory_format=torch.channels_last)))
        return lambda: part(*inputs)

    known = {
        "eager": lambda: eager(model),
        "channels_last": lambda: eager(model, torch.channels_last),
        "bfloat16": bf16,
        "int8": int8,
        "compile": compiled,
        "ONNX Runtime": lambda: onnx_runtime(path, feed),
    }
    return known | ({"OpenVINO": lambda: openvino(path, feed)} if find_spec("openvino") else {})


def measure(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """The best milliseconds of each; one engine after another, as their waiting threads get in each other's way."""
    best = dict.fromkeys(calls, float("inf"))
    for name, call in calls.items():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            call()
            best[name] = min(best[name], 1000 * (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="small")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    model = realsrt.load_model(args.model).eval()
    folder = Path(tempfile.mkdtemp())
    onnx.export(model, folder)
    window = model.config.window
    lq = torch.rand(1, 3, window, window, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ids = next(iter(model.iterate(model.guide(lq), num_steps=1))).ids
        rest = dict(zip(onnx._guide_names(model), onnx._GuidePart(model)(lq), strict=True))
    given = {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)}
    print("part | engine | ms | of eager | differs by")
    for name in ("guide", *onnx.PARTS):
        wants = () if name == "guide" else onnx.PARTS[name][1]
        feed = {want: given[want] for want in wants} | {"lq": lq} | ({} if name == "guide" else rest)
        with torch.inference_mode():
            feed = {key: value.clone() for key, value in feed.items()}
            calls, reasons = {}, {}
            for engine, make in engines(model, name, folder / f"{name}.onnx", feed).items():
                try:
                    calls[engine] = make()
                    calls[engine](), calls[engine]()
                except Exception as error:  # an engine that cannot is a result too
                    calls.pop(engine, None)
                    reasons[engine] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
            expected = first(calls["eager"]())
            took = measure(calls, args.repeats)
            for engine, call in calls.items():
                got = first(call())
                if expected.is_floating_point():
                    gap = f"{float((got.float() - expected).abs().max()):.1e}"
                else:
                    gap = f"{float((got != expected).float().mean()):.1%} of codes"
                print(
                    f"{name} | {engine} | {took[engine]:.1f} | {took[engine] / took['eager']:.2f} | {gap}", flush=True
                )
        for engine, reason in reasons.items():
            print(f"{name} | {engine} | - | - | {reason}", flush=True)


if __name__ == "__main__":
    main()
