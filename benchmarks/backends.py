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
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import realsrt
from realsrt.checkpoint import onnx

Call = Callable[[], Any]
DENOISE = 0.5


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


def engines(part: Any, path: Path, feed: dict[str, torch.Tensor]) -> dict[str, Callable[[], Call]]:
    """How to make each engine's call, by the engine's name."""
    inputs = tuple(feed.values())

    def eager(part: Any, memory: torch.memory_format = torch.contiguous_format) -> Call:
        own = copy.deepcopy(part).to(memory_format=memory)
        return lambda: own(*inputs)

    def bf16() -> Call:
        plain = eager(part, torch.channels_last)

        def call() -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return plain()

        return call

    def int8() -> Call:
        return eager(torch.ao.quantization.quantize_dynamic(copy.deepcopy(part), {torch.nn.Linear}, torch.qint8))

    def compiled() -> Call:
        return torch.compile(eager(part, torch.channels_last))

    known = {
        "eager": lambda: eager(part),
        "channels_last": lambda: eager(part, torch.channels_last),
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="small")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    model = realsrt.load_model(args.model).eval()
    window = model.config.window
    lq = torch.rand(1, 3, window, window, generator=torch.Generator().manual_seed(1))
    print("part | engine | ms | of eager | differs by")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        onnx.export(model, Path(folder), denoise=DENOISE)
        given = onnx.example(model, lq, DENOISE)
        for name, (part, takes, _) in onnx.parts(model, DENOISE).items():
            feed = {each: given[each] for each in takes}
            compare(name, engines(part, Path(folder, f"{name}.onnx"), feed), args.repeats)


def compare(name: str, makers: dict[str, Callable[[], Call]], repeats: int) -> None:
    """Print a line for each engine of a part."""
    calls, reasons = {}, {}
    for engine, make in makers.items():
        try:
            calls[engine] = make()
            calls[engine](), calls[engine]()
        except Exception as error:  # an engine that cannot is a result too
            calls.pop(engine, None)
            reasons[engine] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
    expected = first(calls["eager"]())
    took = measure(calls, repeats)
    for engine, call in calls.items():
        got = first(call())
        if expected.is_floating_point():
            gap = f"{float((got.float() - expected).abs().max()):.1e}"
        else:
            gap = f"{float((got != expected).float().mean()):.1%} of codes"
        print(f"{name} | {engine} | {took[engine]:.1f} | {took[engine] / took['eager']:.2f} | {gap}", flush=True)
    for engine, reason in reasons.items():
        print(f"{name} | {engine} | - | - | {reason}", flush=True)


if __name__ == "__main__":
    main()
