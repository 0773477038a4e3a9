import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_proof_in_the_table_of_failures_exists():
    rows = [line for line in (ROOT / "docs" / "failures.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 15
    for row in (row for row in rows if not row.startswith("| what |")):
        proofs = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert proofs, row
        for file, name in proofs:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), f"{file}::{name}"
