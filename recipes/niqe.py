"""Fit NIQE's parameters to good photographs: python recipes/niqe.py OUT.npz FOLDER…

The shipped src/realsrt/evaluation/niqe.npz is of the 172 openly licensed photographs in the first two shards of the
training pictures (docs/training-data.csv) whose sides have 192 pixels or more.
"""

import sys
from pathlib import Path

import numpy as np

from realsrt.evaluation import niqe, pairing


def main() -> None:
    target, *folders = map(Path, sys.argv[1:])
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    images = (image for path in paths if min((image := pairing.load(path)).shape[2:]) >= 2 * niqe.BLOCK)
    model = niqe.fit(images)
    np.savez(
        target,
        mu_pris_param=model.mean_F.numpy()[None],
        cov_pris_param=model.covariance_FF.numpy(),
        gaussian_window=model.window.numpy(),
    )


if __name__ == "__main__":
    main()
