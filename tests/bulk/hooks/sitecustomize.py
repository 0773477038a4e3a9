"""In every process of a test's run: a line in the file REALSRT_WRITE_LOG for each file that is put in place."""

import os

if log := os.environ.get("REALSRT_WRITE_LOG"):
    from realsrt.bulk.store import OutputStore

    publish = OutputStore.publish

    def publishing(store, file, name):
        publish(store, file, name)
        with open(log, "a") as written:
            written.write(f"{name}\n")

    OutputStore.publish = publishing
