"""The XMP packet of an upscaled picture: what it said before, its sizes corrected, what it announces of things that are
gone taken out, and how the picture was made.

The namespaces and properties are those of the XMP specification, parts 1 and 2 (ISO 16684), of the Metadata Working
Group's image regions, and of what phones write: Motion Photo 1.0, Ultra HDR 1.1, Photo Sphere XMP.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.dom import minidom
from xml.parsers import expat
from xml.parsers.expat import ExpatError

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_MM = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta><?xpacket end="w"?>'
).encode()
_DC = "http://purl.org/dc/elements/1.1/"
_OF_PNG = {  # keyword of PNG → namespace, name, kind of array (XMP specification, part 3)
    "Title": (_DC, "title", "Alt"), "Description": (_DC, "description", "Alt"), "Copyright": (_DC, "rights", "Alt"),
    "Author": (_DC, "creator", "Seq"), "Comment": (_EXIF, "UserComment", "Alt"),
    "Software": ("http://ns.adobe.com/xap/1.0/", "CreatorTool", ""),
}  # fmt: skip
_CONTROL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold
_MAX_BYTES, _MAX_DEPTH, _MAX_NODES = 2**22, 100, 50_000

_GOOGLE = "http://ns.google.com/photos/1.0/"
_PANORAMA, _REGIONS = _GOOGLE + "panorama/", "http://www.metadataworkinggroup.com/schemas/regions/"
_AREA, _DIMENSIONS = "http://ns.adobe.com/xmp/sType/Area#", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_NAMES = {_PANORAMA: "panorama", _REGIONS: "regions"}
_GONE = (  # namespace, start of the name, what it announces
    ("http://ns.adobe.com/hdr-gain-map/1.0/", "", "a gain map"),
    ("http://ns.apple.com/HDRGainMap/1.0/", "", "a gain map"),
    (_GOOGLE + "camera/", "MotionPhoto", "a motion photo"),
    (_GOOGLE + "camera/", "MicroVideo", "a motion photo"),
    ("http://ns.oplus.com/photos/1.0/camera/", "", "a motion photo"),
    ("http://ns.xiaomi.com/photos/1.0/camera/", "", "embedded pictures"),
    (_GOOGLE + "container/", "", "embedded pictures or video"),
    ("http://ns.google.com/photos/dd/1.0/device/", "", "a depth map"),
    (_GOOGLE + "depthmap/", "", "a depth map"),
    (_GOOGLE + "image/", "", "embedded pictures"),
    (_GOOGLE + "audio/", "", "sound"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails", ""),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP", ""),
)


class TooMuchError(ValueError):
    """A packet of more bytes, nodes or depth than is looked at."""


@dataclass(frozen=True)
class Resized:
    """The new size of a picture, the upright one it had (None: unknown), and the EXIF orientation that was undone."""

    width: int
    height: int
    before: tuple[int, int] | None = None
    orientation: int = 1

    def scaled(self, value: float, *, across: bool) -> float:
        """A length or place in pixels of the old picture in those of the new one, across or down."""
        old = self.before or (self.width, self.height)
        return value * (self.width / old[0] if across else self.height / old[1])

    def area(self, numbers: Sequence[int]) -> list[int]:
        """x, y and, if there are, a diameter or width and height, in pixels of the old picture before it was turned, in
        those of the new one; none if one is above 16 bit."""
        old = self.before or (self.width, self.height)
        stored = old[::-1] if self.orientation >= 5 else old
        x, y = self.upright(numbers[0] / stored[0], numbers[1] / stored[1])
        sides = numbers[2:][::-1] if self.orientation >= 5 else numbers[2:]
        new = [x * self.width, y * self.height]
        new += [self.scaled(side, across=place == 0) for place, side in enumerate(sides)]
        return [round(number) for number in new] if max(new) < 65_535.5 else []

    def upright(self, x: float, y: float) -> tuple[float, float]:
        """A place in the stored picture, both from 0 to 1, in the upright one."""
        x, y = (y, x) if self.orientation >= 5 else (x, y)
        return (
            1 - x if self.orientation in (2, 3, 6, 7) else x,
            1 - y if self.orientation in (3, 4, 7, 8) else y,
        )


def updated(
    packet: bytes | None, size: Resized, software: str = "", parameters: str = ""
) -> tuple[bytes | None, tuple[str, ...]]:
    """A packet for a picture of this size, and what to tell of it: sizes and orientation in it corrected; thumbnails
    and what it announces of gain maps, videos and pictures behind the picture taken out.

    With `software`, an event is added to its history (xmpMM:History): resized, by whom, with which parameters. Gives
    None where there is nothing to say. Raises TooMuchError, and ValueError for a packet that cannot be understood or is
    not safe to.
    """
    if packet is None and not software:
        return None, ()
    document, rdf, descriptions = _parse(packet or _EMPTY)
    gone: set[str] = set()
    scaled: set[str] = set()
    for description in descriptions:
        gone |= _take_out(description)
        scaled |= _correct(description, size)
    remarks = [f"its XMP no longer announces {' and '.join(sorted(gone - {''}))}"] if gone - {""} else []
    remarks += [f"sizes of the {' and '.join(sorted(scaled))} in its XMP are multiplied"] if scaled else []
    if software:
        _add_event(
            document, rdf, descriptions, {"action": "resized", "softwareAgent": software, "parameters": parameters}
        )
    return b"".join(node.toxml("utf-8") for node in document.childNodes), tuple(remarks)


def with_texts(packet: bytes | None, texts: Mapping[str, str]) -> tuple[bytes | None, set[str]]:
    """A packet that also says what entries of a PNG file say, by their keywords, and which of them it now does; a
    property that it has already stays. Raises ValueError as `updated`."""
    wanted = {keyword: _OF_PNG[keyword] for keyword in texts if keyword in _OF_PNG}
    if not wanted:
        return packet, set()
    document, rdf, descriptions = _parse(packet or _EMPTY)
    there = {(namespace, name) for node in descriptions for namespace, name, _ in _properties(node)}
    new = {keyword: place for keyword, place in wanted.items() if place[:2] not in there}
    if new:
        description = _describe(document, rdf, descriptions)
        for keyword, (namespace, name, kind) in new.items():
            node = _child(document, description, namespace, f"png{name}:{name}")
            node.setAttributeNS(_XMLNS, f"xmlns:png{name}", namespace)
            if kind:
                node = _child(document, _child(document, node, _RDF, f"rdf:{kind}"), _RDF, "rdf:li")
                if kind == "Alt":
                    node.setAttribute("xml:lang", "x-default")
            node.appendChild(document.createTextNode(_CONTROL.sub(" ", texts[keyword])))
    return b"".join(node.toxml("utf-8") for node in document.childNodes), set(new)


def _parse(packet: bytes) -> tuple[minidom.Document, minidom.Element, list[minidom.Element]]:
    """(document, its rdf:RDF, the descriptions in that)"""
    packet = packet.strip(b"\0 \t\r\n")
    try:
        _check(packet)
        document = minidom.parseString(packet)
    except (ExpatError, LookupError) as error:
        raise ValueError(str(error)) from error
    for rdf in document.getElementsByTagNameNS(_RDF, "RDF"):
        return document, rdf, [node for node in _elements(rdf) if node.localName == "Description"]
    raise ValueError("no rdf:RDF in it")


def _check(packet: bytes) -> None:
    """Go through a packet once, keeping nothing: no declarations, and a size that a tree of objects can bear."""
    if len(packet) > _MAX_BYTES:
        raise TooMuchError(f"it has more than {_MAX_BYTES:,} bytes")
    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    depth = count = 0

    def more(nodes: int = 1) -> None:
        nonlocal count
        count += nodes
        if depth > _MAX_DEPTH or count > _MAX_NODES:
            raise TooMuchError("it is too large or too deeply nested")

    def begin(_name: str, attributes: list[str]) -> None:
        nonlocal depth
        depth += 1
        more(1 + len(attributes) // 2)

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def declare(*_: object) -> None:
        raise ValueError("it declares entities")

    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, end, declare  # pyright: ignore[reportAttributeAccessIssue]
    parser.CommentHandler = parser.ProcessingInstructionHandler = parser.StartCdataSectionHandler = lambda *_: more()
    parser.Parse(packet, True)


def _elements(parent: minidom.Element) -> list[minidom.Element]:
    return [node for node in parent.childNodes if isinstance(node, minidom.Element)]


def _properties(parent: minidom.Element) -> Iterator[tuple[str, str, minidom.Attr | minidom.Element]]:
    """(namespace, name, node) of a resource's properties, whichever way they are written."""
    for node in [*(parent.attributes or {}).values(), *_elements(parent)]:
        yield node.namespaceURI or "", node.localName or "", node


def _text(node: minidom.Attr | minidom.Element) -> str:
    return node.value if isinstance(node, minidom.Attr) else "".join(
        child.data for child in node.childNodes if isinstance(child, minidom.Text)
    )  # fmt: skip


def _set(node: minidom.Attr | minidom.Element, value: str) -> None:
    if isinstance(node, minidom.Attr):
        node.value = value
        return
    for old in list(node.childNodes):
        node.removeChild(old)
    node.appendChild(minidom.Document().createTextNode(value))


def _take_out(description: minidom.Element) -> set[str]:
    """Remove what announces things that are gone, unless they are in the packet; what was announced."""
    found = set()
    properties = list(_properties(description))
    within = {namespace for namespace, name, _ in properties if name == "Data" and namespace.startswith(_GOOGLE)}
    for namespace, name, node in properties:
        for wanted, start, what in _GONE:
            if namespace == wanted and name.startswith(start) and namespace not in within:
                if isinstance(node, minidom.Attr):
                    description.removeAttributeNode(node)
                else:
                    description.removeChild(node)
                found.add(what)
                break
    return found


def _correct(description: minidom.Element, size: Resized) -> set[str]:
    """Put the new size and orientation in; of what else sizes were changed."""
    right = {
        (_TIFF, "ImageWidth"): str(size.width),
        (_TIFF, "ImageLength"): str(size.height),
        (_TIFF, "Orientation"): "1",
        (_EXIF, "PixelXDimension"): str(size.width),
        (_EXIF, "PixelYDimension"): str(size.height),
    }
    changed = set()
    for namespace, name, node in _properties(description):
        if (namespace, name) in right:
            _set(node, right[namespace, name])
        elif namespace == _PANORAMA and re.search("Pixels$|^LargestValidInteriorRect", name):
            across = re.search("Width|Left", name) is not None
            if re.fullmatch(r"\s*\d{1,9}\s*", _text(node)):
                _set(node, str(round(size.scaled(int(_text(node)), across=across))))
                changed.add("panorama")
        elif (namespace, name) == (_REGIONS, "Regions") and isinstance(node, minidom.Element):
            _correct_regions(node, size)
            changed.add("regions")
    return changed


def _correct_regions(regions: minidom.Element, size: Resized) -> None:
    """The size that image regions refer to; and their places, which are those of the picture before it was turned."""
    for node in regions.getElementsByTagNameNS(_REGIONS, "AppliedToDimensions"):
        for name, value in (("w", size.width), ("h", size.height)):
            for found in _named(node, _DIMENSIONS, name):
                _set(found, str(value))
    for node in regions.getElementsByTagNameNS(_REGIONS, "Area"):
        fields = {name: next(_named(node, _AREA, name), None) for name in "xywh"}
        try:
            old = {name: float(_text(field)) for name, field in fields.items() if field is not None}
        except ValueError:
            continue
        if size.orientation == 1 or not {"x", "y"} <= set(old):
            continue
        new = dict(zip("xy", size.upright(old["x"], old["y"]), strict=True))
        if size.orientation >= 5 and {"w", "h"} <= set(old):
            new |= {"w": old["h"], "h": old["w"]}
        for name, value in new.items():
            field = fields[name]
            if field is not None:
                _set(field, f"{value:.6g}")


def _named(node: minidom.Element, namespace: str, name: str) -> Iterator[minidom.Attr | minidom.Element]:
    """A structure's field of this name, whichever way it is written."""
    for inside in [node, *node.getElementsByTagNameNS(_RDF, "Description")]:
        yield from (found for at, local, found in _properties(inside) if (at, local) == (namespace, name))


def _describe(document: minidom.Document, rdf: minidom.Element, others: Sequence[minidom.Element]) -> minidom.Element:
    """A new description, of what the others are about."""
    description = _child(document, rdf, _RDF, "rdf:Description")
    description.setAttributeNS(_RDF, "rdf:about", others[0].getAttributeNS(_RDF, "about") if others else "")
    return description


def _add_event(
    document: minidom.Document, rdf: minidom.Element, descriptions: Sequence[minidom.Element], event: dict[str, str]
) -> None:
    sequence = _history(rdf)
    if sequence is None:
        description = _describe(document, rdf, descriptions)
        description.setAttributeNS(_XMLNS, "xmlns:xmpMM", _MM)
        history = _child(document, description, _MM, "xmpMM:History")
        sequence = _child(document, history, _RDF, "rdf:Seq")
    item = _child(document, sequence, _RDF, "rdf:li")
    item.setAttributeNS(_XMLNS, "xmlns:rdf", _RDF)
    item.setAttributeNS(_XMLNS, "xmlns:stEvt", _EVENT)
    item.setAttributeNS(_RDF, "rdf:parseType", "Resource")
    for name, value in event.items():
        _child(document, item, _EVENT, f"stEvt:{name}").appendChild(document.createTextNode(value))


def _history(rdf: minidom.Element) -> minidom.Element | None:
    for history in rdf.getElementsByTagNameNS(_MM, "History"):
        return next(iter(history.getElementsByTagNameNS(_RDF, "Seq")), None)
    return None


def _child(document: minidom.Document, parent: minidom.Element, namespace: str, name: str) -> minidom.Element:
    """A new element; rdf: is declared again where it is used, since a packet may call it otherwise."""
    element = document.createElementNS(namespace, name)
    if namespace == _RDF:
        element.setAttributeNS(_XMLNS, "xmlns:rdf", _RDF)
    parent.appendChild(element)
    return element
