"""The page: drop a picture, compare, redo what looks wrong, take the file home (extra `web`; see docs/web.md).

`engine`, `session`, `studio`, `previews` and `batch` know nothing of Gradio; the `*_tab` modules lay out and wire.
"""
