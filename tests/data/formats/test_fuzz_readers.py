"""More than 10,000 mutated corpus files: only a CorpusError may come out of a reader, and soon.

Every format has one small valid corpus here. Hypothesis draws a file of it and up to four edits, and
shrinks them when a reader lets another error through.
"""

from __future__ import annotations

import gzip
import signal
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.core.errors import CorpusError
from kaggle_kit.data.formats import FORMATS, Reading, read

EXAMPLES = 950  # mutated corpora per format
SECONDS = 60  # per format, many times what it takes; a reader that hangs does not come back

NOTE = "Seen on May 3.\r\nDenies severe pain of the left and right knee; naïve to opioids.\n"
PIPE = """n1.txt||Disease_Disorder||C0030193||31||44||56||60
n1.txt||Disease_Disorder||CUI-less||31||35
"""
SLOTS = (
    "n1.txt|31-35|C0030193|yes|16-22|patient|null|no|null|unmarked|null|severe|23-29|false|null|false|null"
)
TSV = """docId\tannotSet\tannotType\tstartOffset\tendOffset\tannotId\ttext\tother
n1\t1\tQuantity\t12\t13\tT1-1\t3\t{"unit": "May", "mods": ["IsMean"]}
n1\t1\tMeasuredProperty\t31\t35\tT2-1\tpain\t{"HasQuantity": "T1-1"}
n1\t1\tMeasuredEntity\t56\t60\tT3-1\tknee\t{"HasProperty": "T2-1"}
"""
ANN = """T1\tSign 31 44;56 60\tpain of the left knee
T2\tDrug 71 78\topioids
E1\tSign:T1 Theme:T2
R1\tAfter Arg1:E1 Arg2:T2
A1\tNegated E1
M1\tLevel T1 high
N1\tReference T2 CHEBI:60598\topioid
#1\tAnnotatorNotes T1\tleft only
*\tEquiv T1 T2
"""
PUBTATOR = """7|t|Aspirin and bleeding
7|a|It may bleed.
7\t0\t7\tAspirin\tChemical\tD001241
7\t12\t20\tbleeding\tDisease\tD006470|OMIM:1
7\tCID\tD001241\tD006470

8|t|Nothing
8|a|
"""
ANAFORA = """<?xml version='1.0' encoding='UTF-8'?>
<data><info><progress>completed</progress></info><annotations>
<entity><id>1@e@n1@gold</id><span>8,13</span><type>TIMEX3</type><parentsType>TemporalEntities</parentsType>
<properties><Class>DATE</Class></properties></entity>
<entity><id>2@e@n1@gold</id><span>31,44;56,60</span><type>EVENT</type>
<properties><DocTimeRel>BEFORE</DocTimeRel><Degree/></properties></entity>
<relation><id>3@r@n1@gold</id><type>TLINK</type>
<properties><Source>1@e@n1@gold</Source><Type>CONTAINS</Type><Target>2@e@n1@gold</Target></properties></relation>
</annotations></data>
"""
ENGLISH = """<?xml version="1.0" encoding="UTF-8"?>
<xml><OrgQuestion ORGQ_ID="Q1"><OrgQSubject>Shoes</OrgQSubject><OrgQBody>to run &amp; jump?</OrgQBody>
<Thread THREAD_SEQUENCE="Q1_R1"><RelQuestion RELQ_ID="Q1_R1" RELQ_RELEVANCE2ORGQ="Relevant">
<RelQSubject>Where?</RelQSubject><RelQBody>Running café</RelQBody></RelQuestion>
<RelComment RELC_ID="Q1_R1_C1" RELC_RELEVANCE2RELQ="Good" RELC_RELEVANCE2ORGQ="Bad"><RelCText>Here</RelCText>
</RelComment><RelComment RELC_ID="Q1_R1_C2" RELC_RELEVANCE2RELQ="Bad" RELC_RELEVANCE2ORGQ="Bad">
<RelCText/></RelComment></Thread></OrgQuestion></xml>
"""
CONLL = """-DOCSTART- -X- O

No DT O
severe JJ B-Sign
pain NN I-Sign

Naïve RB O
opioids NNS B-Drug
"""
JSONL = """{"id": "n1", "text": "No pain", "mentions": [{"id": "T1", "type": "Sign", "start": 3, "end": 7}, \
{"id": "T2", "type": "No", "fragments": [[0, 2]], "concepts": ["C1"], "attributes": {"a": 1}}], \
"relations": [{"type": "not", "source": "T2", "target": "T1"}]}
{"id": "q1", "text": "Où?", "candidates": [{"id": "c1", "text": "North", "relevant": true}]}
"""
BIGBIO = """{"id": "0", "document_id": "n1", "passages": [{"id": "p", "type": "note", "text": ["No pain"], \
"offsets": [[0, 7]]}], "entities": [{"id": "e1", "type": "Sign", "text": ["pain"], "offsets": [[3, 7]], \
"normalized": [{"db_name": "UMLS", "db_id": "C1"}]}, {"id": "e2", "type": "No", "text": ["No"], "offsets": \
[[0, 2]], "normalized": []}], "events": [{"id": "v", "type": "X", "trigger": {"text": ["No"], "offsets": \
[[0, 2]]}, "arguments": [{"role": "of", "ref_id": "e1"}]}], "coreferences": [], "relations": [{"id": "r", \
"type": "not", "arg1_id": "e2", "arg2_id": "e1", "normalized": []}]}
"""
ROWS = """[{"id": "1", "tokens": ["No", "pain"], "ner_tags": ["O", "B-Sign"]},
{"id": "2", "tokens": ["left", "knee", "naïve"], "ner_tags": ["B-Site", "I-Site", "O"]}]
"""
ARABIC = """<root><Question QID="7"><Qtext>سؤال</Qtext>
<QApair QAID="30" QArel="I"><QAquestion>q1</QAquestion><QAanswer>a1</QAanswer></QApair>
<QApair QAID="4" QArel="D"><QAquestion>q2</QAquestion><QAanswer>a2</QAanswer></QApair></Question></root>
"""

# format -> file below the corpus folder -> bytes; together they read without an error
CORPORA = {
    "share_pipe": {"n1.pipe": PIPE, "n1.text": NOTE},
    "share_slots": {"n1.pipe": f"{SLOTS}|C0022742|45-49,56-60\n{SLOTS}|C0230431|50-60\n", "n1.text": NOTE},
    "anafora": {"n1/n1.Temporal-Relation.gold.completed.xml": ANAFORA, "n1/n1": NOTE},
    "cqa": {"forum.xml": ENGLISH, "medical.xml.gz": gzip.compress(ARABIC.encode(), mtime=0)},
    "brat": {"n1.ann": ANN, "n1.txt": NOTE},
    "pubtator": {"corpus.PubTator": PUBTATOR},
    "measeval": {"tsv/n1.tsv": TSV, "text/n1.txt": NOTE},
    "jsonl": {"train.jsonl": JSONL},
    "conll": {"train.conll": CONLL},
    "bigbio": {"train.jsonl": BIGBIO},
    "hf": {"train.json": ROWS},
}
CORPORA = {
    name: {path: content.encode() if isinstance(content, str) else content for path, content in files.items()}
    for name, files in CORPORA.items()
}

PAYLOADS = [
    *(
        b"|",
        b"||",
        b"\t",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b";",
        b":",
        b",",
        b"-",
        b'"',
        b"{",
        b"[",
        b"<",
        b"&",
        b">",
    ),
    *(
        b"-1",
        b"0",
        b"1e9",
        b"99999999999999999999",
        b"\xd9\xa3",
        b"\xc2\xb2",
        b"null",
        b"T1",
        b"E1",
        b"R1",
        b"{}",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
    ),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"<a>" * 600,
        b"9" * 5000,
        b"NaN",
        b"Infinity",
        b'{"unit": 3}',
        b'{"mods": [1]}',
    ),
    *(
        b"&x;",
        b"&#0;",
        b"&#x110000;",
        b"]]>",
        b"<![CDATA[",
        b"<!--",
        b"<?x?>",
        b"</annotations>",
        b"<entity/>",
    ),
    *(
        b'<!DOCTYPE d [<!ENTITY x SYSTEM "n1">]>',
        b"\x1f\x8b\x08",
        b"T1\tSign 0 4\tSeen\n",
        b"7|t|Again\n",
        b"../n1",
    ),
]
EDITS = ("flip", "delete", "insert", "replace", "copy", "swap_lines", "repeat_line", "truncate")
edits = st.lists(
    st.tuples(
        st.sampled_from(EDITS),
        st.integers(0, 2**16 - 1),  # where
        st.integers(0, 2**16 - 1),  # how much, which bit, or where else
        st.sampled_from(PAYLOADS),
    ),
    min_size=1,
    max_size=4,
)


def _edited(content: bytes, edit: str, where: int, other: int, payload: bytes) -> bytes:
    at = where % (len(content) + 1)
    upto = at + 1 + other % 12
    match edit:
        case "flip":
            return (
                content[:at]
                + bytes(byte ^ (1 << other % 8) for byte in content[at : at + 1])
                + content[at + 1 :]
            )
        case "delete":
            return content[:at] + content[upto:]
        case "insert":
            return content[:at] + payload + content[at:]
        case "replace":
            return content[:at] + payload + content[upto:]
        case "copy":
            to = other % (len(content) + 1)
            return content[:to] + content[at : at + 40] + content[to:]
        case "truncate":
            return content[:at]
    lines = content.splitlines(keepends=True) or [b""]
    first, second = where % len(lines), other % len(lines)
    if edit == "repeat_line":
        lines.insert(second, lines[first])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def _write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@contextmanager
def _no_longer_than(seconds):
    def stop(*_):
        raise TimeoutError(f"a reader was still at it after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def test_more_than_ten_thousand_files_are_tried_over_all_formats():
    assert set(CORPORA) == set(FORMATS) and EXAMPLES * len(FORMATS) > 10_000


@pytest.mark.parametrize("name", FORMATS)
def test_the_corpus_that_is_mutated_reads_without_an_error(name, tmp_path):
    _write(tmp_path, CORPORA[name])
    samples = read(name, tmp_path, Reading())
    assert any(sample.mentions or sample.pairs for sample in samples)
    without = ("share_pipe", "share_slots", "cqa", "conll", "hf")
    assert any(sample.relations for sample in samples) == (name not in without)


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_is_read_or_refused_with_a_corpus_error(name, tmp_path):
    outcomes = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sorted(CORPORA[name])), edits)
    def mutated(path, drawn):
        content = CORPORA[name][path]
        for edit in drawn:
            content = _edited(content, *edit)
        _write(tmp_path, CORPORA[name] | {path: content})
        try:
            read(name, tmp_path, Reading())
        except CorpusError as error:
            outcomes["refused"] += 1
            assert error.found and error.path.is_relative_to(tmp_path)
        else:
            outcomes["read"] += 1

    with _no_longer_than(SECONDS):
        mutated()
    # Of gzipped XML few mutations can be read. How many was seen to vary with the tests that run
    # beside it (70 of 1,500 at the least); the cause is not known.
    assert outcomes.total() >= EXAMPLES and min(outcomes["read"], outcomes["refused"]) > EXAMPLES / 40, (
        outcomes
    )
