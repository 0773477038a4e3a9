"""`realsrt visualize`: a picture's way through the steps, drawn."""

import sys
from pathlib import Path
from typing import Annotated

from realsrt.batch.plan import find_images
from realsrt.cli.options import ModelArgs, SteppedArgs, check_not_read, check_outputs, make_folders, option, parse_box
from realsrt.cli.show import Screen, note
from realsrt.errors import UsageError
from realsrt.io.files import MAX_PIXELS


def visualize(
    input: Annotated[list[str], option("--input", "-i", help="Low-quality pictures.", consume_multiple=True)],
    *,
    output: Annotated[
        Path,
        option("--output", "-o", help="A .png, .jpg, .pdf or .svg (any number of pictures), a .gif or .html (one)."),
    ],
    zoom: Annotated[
        list[str] | None,
        option(help="X0,Y0,X1,Y1 in output pixels, the place shown enlarged, one a picture; the least confident."),
    ] = None,
    options: SteppedArgs = SteppedArgs(),  # noqa: B008 - frozen
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    max_pixels: Annotated[int, option(help="Refuse larger inputs before decoding them.")] = MAX_PIXELS,
    quality: Annotated[int, option(help="1 to 100, for JPEG.")] = 90,
) -> int:
    """Draw each step's picture above its confidence (brighter = surer), the input first, one place enlarged.

    A .gif plays the steps, an .html is one file with a slider. Needs the extra `visualize`.
    """
    from realsrt.io import image as imageio
    from realsrt.visualize import render

    sources = find_images(input, tell=note)
    check_not_read(sources, output)
    render.check(output, len(sources))
    zooms = [parse_box(text, "--zoom") for text in zoom or ()]
    if zooms and len(zooms) != len(sources):
        raise UsageError(f"give one --zoom for each picture: {len(sources)} pictures, {len(zooms)} boxes")
    check_outputs(output)
    up, strips = model.load(), []
    with Screen(len(sources)) as screen:
        for number, source in enumerate(sources):
            screen.begin(source.name)
            picture = imageio.read(source, max_pixels=max_pixels)
            for notice in picture.notices:
                note(notice)
            steps = up.stream(picture, options, on_progress=screen.windows)
            strips.append(render.strip(source.name, picture, steps, zooms[number] if zooms else None))
            screen.advance()
    make_folders(output)
    render.write(output, strips, quality=quality)
    print(output, file=sys.stdout)
    return 0
