"""`realsrt bulk`: many pictures on all cores or many machines. Most options are those of `realsrt upscale`."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Annotated, Any

from realsrt.batch.outputs import CONFIDENCE, left_beside
from realsrt.batch.signals import stop_signals
from realsrt.cli.options import NO_STEPS, ModelArgs, OutputArgs, UpscaleArgs, option
from realsrt.cli.show import duration, error, note
from realsrt.errors import UsageError, needs
from realsrt.io.files import FULL

_EVERY = 10.0  # s between lines of progress where there is no terminal


def bulk(
    src: Annotated[str, option(help="A folder, a manifest (.csv, .parquet) or .tar files (a glob); a path or a URL.")],
    dst: Annotated[str, option(help="The output folder; a path or a URL such as s3://bucket/folder.")],
    *,
    address: Annotated[str | None, option(help="A Ray cluster to join; else Ray runs on this machine only.")] = None,
    num_actors: Annotated[
        str, option(help="How many models compute side by side; auto: one a GPU, or one a CPU core.")
    ] = "auto",
    batch: Annotated[int | None, option(help="Pictures a model takes at a time.  [default: 8, on a GPU 32]")] = None,
    max_tries: Annotated[
        int, option(help="A picture that kills what computes it is begun so often, over all runs.")
    ] = 3,
    object_store_mb: Annotated[int, option(help="Shared memory for pictures on their way, without --address.")] = 500,
    options: UpscaleArgs = UpscaleArgs(),  # noqa: B008 - frozen
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    files: OutputArgs = OutputArgs(),  # noqa: B008 - frozen
    suffix: Annotated[str, option(help="Added to each output's name, before its extension.")] = "",
    ext: Annotated[
        str, option("--ext", "-f", help="Output format: auto (as the input), png, jpg, webp, tif, ...")
    ] = "auto",
) -> int:
    """Upscale many pictures side by side: on all cores of this machine, or on a Ray cluster.

    --threads are those of each model; by default the cores are divided by --num-actors.

    A second run makes what is missing, has failed, or was made of another input or with other settings. What became of
    each picture is in DST/results.parquet; the sums are a line of JSON on stdout. Exit status: 0 all done, 1 some
    failed (each named on stderr), 2 usage.
    """
    from realsrt.bulk.cluster import ray_running, shares
    from realsrt.bulk.plan import checked_model, settings_on
    from realsrt.bulk.results import BulkRecord, write_results
    from realsrt.bulk.run import Tally, run
    from realsrt.bulk.sources import plan_items
    from realsrt.bulk.store import open_store
    from realsrt.bulk.work import BulkRun

    began = time.monotonic()
    if num_actors != "auto" and not (num_actors.isdecimal() and int(num_actors)):
        raise UsageError(f"--num-actors takes auto or a number from 1, not '{num_actors}'")
    for name, value, least in (("threads", model.threads, 1), ("batch", batch, 1), ("max-tries", max_tries, 1)):
        if value is not None and value < least:
            raise UsageError(f"--{name} must be at least {least}, got {value}")
    if files.confidence and options.steps == 0:
        raise UsageError(NO_STEPS)
    companions = [CONFIDENCE] if files.confidence else []
    with needs("bulk", "bulk"):
        store = open_store(dst)
        items = plan_items(src, store, suffix=suffix, ext=ext, companions=companions, tell=note)
    info = checked_model(model.weights, options, model.chosen_precision)
    outcomes: list[BulkRecord] = []
    full: list[str] = []
    with ray_running(address, object_store_mb) as ray, store.alone(), stop_signals() as signals:
        actors = None if num_actors == "auto" else int(num_actors)
        share = shares(ray.cluster_resources(), actors, model.threads, batch, model.device, len(items))
        precision = model.chosen_precision
        work = BulkRun(
            output=dst, options=options, files=files, weights=model.weights, model=info.source,
            model_sha256=info.sha256, settings=settings_on(share.device, precision, info.sha256, options, files),
            device=share.device, precision=precision, threads=share.threads, max_tries=max_tries,
        )  # fmt: skip
        tally = Tally(len(items))
        started = round(time.monotonic() - began, 3)
        progress = _progress(tally)
        for outcome in run(ray, items, work, share, lambda: bool(signals or full)):
            if outcome is not None:
                outcomes.append(outcome)
                tally.add(outcome)
                if outcome.status == "failed":
                    error(outcome.reason or outcome.source)
                    full.extend(text for text in map(os.strerror, FULL) if text in (outcome.reason or ""))
                for notice in outcome.notices if outcome.status == "done" else ():
                    note(notice)
            progress()
        progress(last=True)
        stopped = tally.settled < len(items)
    where = None if stopped else write_results(store, outcomes)
    told = {"pictures": len(items), **tally.counts, "start_seconds": started, "seconds": round(tally.seconds, 3)}
    print(json.dumps({**told, "pictures_per_second": round(tally.rate, 3), "results": where}), flush=True)
    settled = {outcome.key for outcome in outcomes if outcome.status != "failed"}
    targets = {item.key: PurePosixPath(item.target) for item in items}
    made = [target for key, target in targets.items() if key in settled]
    with suppress(OSError):  # of the store, which has taken all results
        if left := left_beside(made, files, set(targets.values()), store.listed()):
            note(f"{store.shown}: {left}")
    if stopped:
        why = f"by {signal.Signals(signals[0]).name}" if signals else "as the disk is full: make room"
        error(f"stopped {why}; {len(items) - tally.settled} left; the same command goes on")
    return 128 + signals[0] if stopped and signals else 1 if stopped or tally.counts["failed"] else 0


def _progress(tally: Any) -> Callable[..., None]:
    """Prints to stderr how far things are: in place on a terminal, else a line now and then."""
    live, said = sys.stderr.isatty(), [time.monotonic()]

    def show(*, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - said[0] < (0.2 if live else _EVERY):
            return
        said[0] = now
        left = tally.seconds_left
        eta = "" if left is None or last else f", {duration(left)} left"
        counts = ", ".join(f"{count} {status}" for status, count in tally.counts.items() if count)
        text = f"{tally.settled} of {tally.total} ({counts or 'starting'}), {tally.rate:.2f} pictures/s{eta}"
        print(f"\r\033[K{text}" if live else f"realsrt: {text}", end="\n" if last or not live else "", file=sys.stderr)
        sys.stderr.flush()

    return show
