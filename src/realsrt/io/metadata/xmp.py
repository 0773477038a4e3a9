"""The XMP packet of an upscaled picture: what it said before, its sizes corrected, and how the picture was made.

The namespaces and properties are those of the XMP specification, parts 1 and 2 (ISO 16684).
"""

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
_MAX_DEPTH, _MAX_ELEMENTS = 100, 50_000


def updated(packet: bytes | None, width: int, height: int, software: str = "", parameters: str = "") -> bytes | None:
    """A packet for a picture of this size: sizes and orientation in it corrected, thumbnails taken out.

    With `software`, an event is added to its history (xmpMM:History): resized, by whom, with which parameters. Gives
    None where there is nothing to say. Raises ValueError for a packet that cannot be understood, or is not safe to.
    """
    if packet is None and not software:
        return None
    document = _parse(packet or _EMPTY)
    rdf = next(iter(document.getElementsByTagNameNS(_RDF, "RDF")), None)
    if rdf is None:
        raise ValueError("no rdf:RDF in it")
    descriptions = [node for node in _elements(rdf) if node.localName == "Description"]
    for description in descriptions:
        _correct(description, width, height)
    if software:
        about = descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""
        _add_event(document, rdf, about, {"action": "resized", "softwareAgent": software, "parameters": parameters})
    return b"".join(node.toxml("utf-8") for node in document.childNodes)


def _parse(packet: bytes) -> minidom.Document:
    packet = packet.strip(b"\0 \t\r\n")
    try:
        _check(packet)
        return minidom.parseString(packet)
    except (ExpatError, LookupError) as error:
        raise ValueError(str(error)) from error


def _check(packet: bytes) -> None:
    """Go through a packet once, keeping nothing: no declarations, and a size that a tree of objects can bear."""
    parser = expat.ParserCreate()
    depth = count = 0

    def begin(_name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise ValueError("too large or too deeply nested")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def declare(*_: object) -> None:
        raise ValueError("it declares entities")

    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, end, declare
    parser.Parse(packet, True)


def _elements(parent: minidom.Element) -> list[minidom.Element]:
    return [node for node in parent.childNodes if isinstance(node, minidom.Element)]


def _correct(description: minidom.Element, width: int, height: int) -> None:
    right = {
        (_TIFF, "ImageWidth"): str(width),
        (_TIFF, "ImageLength"): str(height),
        (_TIFF, "Orientation"): "1",
        (_EXIF, "PixelXDimension"): str(width),
        (_EXIF, "PixelYDimension"): str(height),
    }
    wrong = {("http://ns.adobe.com/xap/1.0/", "Thumbnails"), ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")}
    for attribute in list((description.attributes or {}).values()):
        name = (attribute.namespaceURI or "", attribute.localName)
        if name in right:
            attribute.value = right[name]
        elif name in wrong:
            description.removeAttributeNode(attribute)
    for child in _elements(description):
        name = (child.namespaceURI or "", child.localName)
        if name in right:
            for old in list(child.childNodes):
                child.removeChild(old)
            child.appendChild(minidom.Document().createTextNode(right[name]))
        elif name in wrong:
            description.removeChild(child)


def _add_event(document: minidom.Document, rdf: minidom.Element, about: str, event: dict[str, str]) -> None:
    sequence = _history(rdf)
    if sequence is None:
        description = _child(document, rdf, _RDF, "rdf:Description")
        description.setAttributeNS(_RDF, "rdf:about", about)
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
