"""XML from strangers: what is read, and what is refused with a path and a line."""

from __future__ import annotations

import gzip

import pytest

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.data.formats import xml_safe
from kaggle_kit.data.formats.xml_safe import attribute, child_text, filled_text, parse


def _file(tmp_path, content, name="file.xml"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def _refused(path):
    with pytest.raises(CorpusError) as caught:
        parse(path)
    return caught.value


def test_elements_know_the_line_on_which_they_stand(tmp_path):
    root = parse(_file(tmp_path, b"<a>\r\n<b/>\r\n<b/>\r\n</a>"))
    assert [child.sourceline for child in root] == [2, 3]


def test_an_element_named_xml_with_a_dtd_of_elements_is_read(tmp_path):
    dtd = b'<!DOCTYPE xml [<!ELEMENT xml (b*)><!ATTLIST xml version CDATA "9">]>'
    root = parse(_file(tmp_path, b'<?xml version="1.0"?>\n' + dtd + b'\n<xml version="1.0"><b>t</b></xml>'))
    assert (root.tag, root.get("version"), root.findtext("b")) == ("xml", "1.0", "t")


def test_a_byte_order_mark_is_skipped_and_comments_leave_the_text_whole(tmp_path):
    assert parse(_file(tmp_path, b"\xef\xbb\xbf<a>x<!-- c -->y<?p q?>z</a>")).text == "xyz"


def test_a_gzipped_file_reads_like_a_plain_one(tmp_path):
    assert parse(_file(tmp_path, gzip.compress(b"<a>x</a>"), "file.xml.gz")).text == "x"


def test_a_billion_laughs_are_refused(tmp_path):
    entities = b'<!ENTITY l0 "lol">' + b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10)
    )
    _refused(_file(tmp_path, b"<!DOCTYPE a [" + entities + b"]><a>&l9;</a>"))
    _refused(_file(tmp_path, b"<!DOCTYPE a [" + entities + b']><a b="&l9;"/>'))


def test_an_external_entity_reaches_no_other_file(tmp_path):
    secret = _file(tmp_path, b"secret", "secret.txt")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]><a>&x;</a>'.encode()
    error = _refused(_file(tmp_path, entity))
    assert "'x'" in error.found and "secret" not in str(error.found)


def test_parameter_entities_and_external_dtds_are_refused(tmp_path):
    assert "'x'" in _refused(_file(tmp_path, b'<!DOCTYPE a [<!ENTITY % x SYSTEM "y.dtd"> %x;]><a/>')).found
    assert "y.dtd" in _refused(_file(tmp_path, b'<!DOCTYPE a SYSTEM "y.dtd"><a>&z;</a>')).found


def test_bytes_that_are_not_utf_8_are_refused_with_their_line_whatever_is_declared(tmp_path):
    assert _refused(_file(tmp_path, b"<a>\n\n\xe9</a>")).line == 3
    latin = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<a>é</a>'.encode("latin-1")
    assert _refused(_file(tmp_path, latin)).line == 2
    _refused(_file(tmp_path, '<?xml version="1.0" encoding="UTF-16"?><a/>'.encode("utf-16")))


def test_malformed_xml_is_refused_with_its_line(tmp_path):
    error = _refused(_file(tmp_path, b"<a>\n<b>\n</a>"))
    assert error.line == 3 and "mismatch" in error.found and error.expected == "well-formed UTF-8 XML"
    assert "Entity 'nbsp' not defined" in _refused(_file(tmp_path, b"<a>&nbsp;</a>")).found
    assert "empty" in _refused(_file(tmp_path, b"")).found


def test_nesting_without_end_is_refused(tmp_path):
    assert "depth" in _refused(_file(tmp_path, b"<a>" * 5000)).found


def test_a_missing_file_and_a_broken_archive_are_refused(tmp_path):
    assert "No such file" in _refused(tmp_path / "none.xml").found
    whole = gzip.compress(b"<a>" + bytes(range(97, 123)) * 50 + b"</a>")
    _refused(_file(tmp_path, whole[:-12], "short.xml.gz"))
    _refused(_file(tmp_path, b"plain", "plain.xml.gz"))


def test_an_archive_that_unpacks_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(xml_safe, "MAX_BYTES", 1000)
    bomb = _file(tmp_path, gzip.compress(b"<a>" + b" " * 100_000 + b"</a>"), "bomb.xml.gz")
    assert "at most 1000 bytes" in str(_refused(bomb))


def test_attributes_and_children_that_are_missing_name_their_line(tmp_path):
    path = _file(tmp_path, b'<a>\n<b id=" 7 "> t <i>u</i> </b>\n<c/></a>')
    root = parse(path)
    assert attribute(root[0], "id", path) == "7"
    assert child_text(root, "b", path) == "t u"
    assert child_text(root, "c", path) == ""
    for demand in (lambda: attribute(root[1], "id", path), lambda: child_text(root[1], "d", path)):
        with pytest.raises(CorpusError) as caught:
            demand()
        assert caught.value.line == 3
    with pytest.raises(CorpusError, match="blank <c>"):
        filled_text(root, "c", path)
