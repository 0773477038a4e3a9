"""Many images on many cores or machines, by Ray Data: `run.run`. Needs the extra `bulk`.

An image goes: read (a task) → computed (an actor that holds an Upscaler) → written (a task). Its state, a JSON object
beside the output, says what was tried and made, so that any of these may die, and the driver too.
"""
