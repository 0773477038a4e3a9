"""Training as several processes, for tests."""

import os
import socket
import subprocess
import sys


def flags(options):
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        if value is False:
            continue
        yield f"--{name.replace('_', '-')}"
        yield from ([] if value is True else map(str, values))


def train_on_two(stage, options, script=("-m", "realsrt"), **environment):
    """`realsrt train` by torchrun, as two processes on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, *launch, *map(str, script), "train", stage, *flags(options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
