"""Parsing XML that somebody else wrote: no entities, no network, no bombs, and errors with a line.

root = parse(path)          # an lxml element; `element.sourceline` counts from 1
"""

import gzip
import zlib
from pathlib import Path

from lxml import etree

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.core.restricted import quoted, unless_withheld
from kaggle_kit.data.formats.base import Line

MAX_BYTES = 256 * 1024 * 1024  # of XML after decompression; the largest official file has about 40 MiB


def parse(path: Path) -> etree._Element:
    """Return the root element of a UTF-8 XML file, plain or gzipped (`.gz`), without comments.

    An internal DTD may declare elements and attributes. Raises CorpusError for anything else than
    well-formed UTF-8 XML, for a declared entity or an external DTD (no corpus here needs them, and
    through them a file can reach other files or grow without bound), and for more than MAX_BYTES.
    """
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says
        resolve_entities=False,
        load_dtd=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,  # keeps libxml2's limits on depth, text size and entity growth
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(_content(path), parser)
    except etree.XMLSyntaxError as error:
        said = " ".join((error.msg or "malformed XML").split())
        found = unless_withheld(said, instead=f"malformed XML (libxml2 error {error.code})")
        raise Line(path, error.lineno).error(found, "well-formed UTF-8 XML") from error
    _refuse_indirection(root, path)
    return root


def line_of(element: etree._Element, path: Path) -> Line:
    """Return the place where an element of the file begins."""
    return Line(path, element.sourceline)


def attribute(element: etree._Element, name: str, path: Path) -> str:
    """Return an attribute that the format demands, stripped; CorpusError where it is absent or blank."""
    if value := (element.get(name) or "").strip():
        return value
    raise line_of(element, path).error(f"<{element.tag}> without {name}", f'{name}="…"')


def child_text(element: etree._Element, tag: str, path: Path) -> str:
    """Return the whole text of a child that the format demands, stripped; CorpusError where it is absent."""
    if (child := element.find(tag)) is None:
        raise line_of(element, path).error(f"<{element.tag}> without <{tag}>", f"<{tag}>…</{tag}> in it")
    return "".join(child.itertext()).strip()


def filled_text(element: etree._Element, tag: str, path: Path) -> str:
    """Return as `child_text` does, but raise CorpusError also where the child is blank."""
    if text := child_text(element, tag, path):
        return text
    raise line_of(element, path).error(f"blank <{tag}>", "text in it")


def _content(path: Path) -> bytes:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        found = f"unreadable file ({getattr(error, 'strerror', None) or error})"
        raise CorpusError(path, found=found, expected="a readable XML file") from error
    if len(content) > MAX_BYTES:
        raise CorpusError(path, found="a larger file", expected=f"at most {MAX_BYTES} bytes of XML")
    return content


def _refuse_indirection(root: etree._Element, path: Path) -> None:
    document = root.getroottree().docinfo
    if document.system_url or document.public_id:
        found = f"external DTD {quoted(document.system_url or document.public_id)}"
        raise CorpusError(path, found=found, expected="no DTD, or one inside the document")
    if document.internalDTD is not None:
        for entity in document.internalDTD.iterentities():
            found = f"declared entity {quoted(entity.name)}"
            raise CorpusError(path, found=found, expected="a document without entities of its own")
