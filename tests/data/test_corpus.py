"""Whole corpora: splits by layout and by hash, labels from the data, the hash of what was read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.core.errors import CorpusError, CorpusMissing
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.core.types import Access
from kaggle_kit.data.corpus import check_corpus, limit, load_corpus, task_spec, unlearnable
from kaggle_kit.data.formats import FORMATS, format_module, write
from kaggle_kit.data.locate import globs, splits
from kaggle_kit.data.practice import generate
from kaggle_kit.data.registry import task

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def brat(folder, names, *, relation=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_text("aspirin helps against pain")
        lines = "T1\tDrug 0 7\taspirin\nT2\tSymptom 22 26\tpain\n"
        (folder / f"{name}.ann").write_text(lines + ("R1\tTREATS Arg1:T1 Arg2:T2\n" if relation else ""))
    return folder


@pytest.fixture
def slot(tmp_path):
    brat(tmp_path / "train", ["a", "b", "c"])
    brat(tmp_path / "dev", ["d"])
    return task("semeval2021t6")


def test_the_splits_are_read_and_name_themselves(tmp_path, slot):
    corpus = load_corpus(slot, tmp_path)
    assert [sample.document_id for sample in corpus.splits["train"]] == ["a", "b", "c"]
    assert [sample.split for sample in corpus.splits["dev"]] == ["dev"]
    assert (corpus.files, corpus.practice, corpus.access) == (4, False, Access.PUBLIC)


def test_labels_left_open_come_sorted_from_the_training_split(tmp_path, slot):
    spec = task_spec(slot, load_corpus(slot, tmp_path))
    assert [(part.name, part.level, part.labels) for part in spec.components] == [
        ("ner", 1, ("Drug", "Symptom")),
        ("relations", 2, ("TREATS",)),
    ]


def test_labels_that_are_given_stand(tmp_path, slot):
    slot.components[0].labels = ["Symptom"]
    spec = task_spec(slot, load_corpus(slot, tmp_path))
    assert spec.components[0].labels == ("Symptom",)


def test_a_component_without_any_annotation_is_left_out_with_a_reason(tmp_path):
    brat(tmp_path / "train", ["a"], relation=False)
    slot = task("semeval2021t6")
    corpus = load_corpus(slot, tmp_path, splits=("train",))
    assert [part.name for part in task_spec(slot, corpus).components] == ["ner"]
    assert unlearnable(slot, corpus) == {"relations": "the training split has no relations"}


def test_a_corpus_without_any_annotation_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("aspirin helps against pain")
    slot = task("semeval2021t6")
    with pytest.raises(CorpusError, match="nothing in the training split for ner, relations"):
        task_spec(slot, load_corpus(slot, tmp_path, splits=("train",)))


def test_documents_of_one_name_in_two_folders_are_named_by_their_folders(tmp_path):
    slot = task("semeval2021t6")
    for batch in ("b1", "b2"):
        brat(tmp_path / "train" / batch, ["001"])
    (tmp_path / "train" / "b2" / "001.txt").write_text("aspirin helps against pain, too")
    corpus = load_corpus(slot, tmp_path, splits=("train",))
    assert [sample.document_id for sample in corpus.splits["train"]] == ["b1/001", "b2/001"]
    written = write("brat", corpus.splits["train"], tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == ["b1/001.ann", "b2/001.ann"]


def test_what_a_mac_or_an_editor_leaves_behind_is_no_corpus_file(tmp_path, slot):
    for place in ("__MACOSX/._a.ann", "._a.ann", ".ipynb_checkpoints/a-checkpoint.ann", ".DS_Store"):
        (tmp_path / "train" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / place).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "train" / "README.txt").write_text("about these files")
    corpus = load_corpus(slot, tmp_path, splits=("train",))
    assert [sample.document_id for sample in corpus.splits["train"]] == ["a", "b", "c"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_takes_a_hidden_file_for_a_corpus_file(tmp_path, name):
    endings = (".ann", ".txt", ".xml", ".xml.gz", ".pipe", ".text", ".tsv", ".PubTator", ".a1")
    for folder in (tmp_path / "__MACOSX", tmp_path / ".git", tmp_path / "text"):
        folder.mkdir()
        for ending in endings:
            (folder / f"._a.Temporal-Relation.gold.completed{ending}").write_bytes(b"\x00")
    assert format_module(name).find(tmp_path) == []


def test_a_document_id_cannot_lead_out_of_the_folder_that_is_written(tmp_path, slot):
    sample = replace(load_corpus(slot, tmp_path).splits["train"][0], document_id="../stolen")
    with pytest.raises(CorpusError, match="stolen"):
        write("brat", [sample], tmp_path / "out")
    assert not (tmp_path / "stolen.ann").exists()


def test_the_slot_reads_pubtator_by_one_override(tmp_path):
    (tmp_path / "train").mkdir()
    text = "7|t|Pain\n7|a|None.\n7\t0\t4\tPain\tDisease\tD010146\n"
    (tmp_path / "train" / "corpus.PubTator").write_text(text)
    slot = task("semeval2021t6")
    slot.format = "pubtator"
    corpus = load_corpus(slot, tmp_path, splits=("train",))
    assert corpus.splits["train"][0].mentions[0].concepts == ("D010146",)


def test_mention_types_are_named_as_the_study_names_them(tmp_path):
    text = "7|t|Pain\n7|a|None.\n7\t0\t4\tPain\tSpecificDisease\tD010146\n"
    (tmp_path / "NCBItrainset_corpus.txt").write_text(text)
    ncbi = task("ncbi_disease")
    corpus = load_corpus(ncbi, tmp_path, splits=("train",))
    assert [mention.type for mention in corpus.splits["train"][0].mentions] == ["Disease"]


def test_a_split_without_files_is_told_with_its_globs(tmp_path, slot):
    with pytest.raises(CorpusMissing, match=r"split 'test' of 'semeval2021t6'.*test \| Test"):
        load_corpus(slot, tmp_path, splits=("test",))


def test_an_unreadable_file_stops_the_reading_and_counts_the_good_ones(tmp_path, slot):
    (tmp_path / "train" / "c.ann").write_bytes(b"T1\tDrug 0 7\t\xff\n")
    with pytest.raises(CorpusError, match=r"c\.ann:1: .*\(3 file\(s\) read before it\)"):
        load_corpus(slot, tmp_path)  # d of the dev split, then a and b


def test_a_record_that_cannot_be_used_is_reported_and_skipped_unless_the_task_is_strict(tmp_path, slot):
    (tmp_path / "train" / "c.txt").write_text("an aspirin a day")
    (tmp_path / "train" / "c.ann").write_text("T1\tDrug 3 10\taspirin\nT2\tDrug 0 700\taspirin\nX\n")
    corpus = load_corpus(slot, tmp_path)
    sample = {sample.document_id: sample for sample in corpus.splits["train"]}["c"]
    assert [mention.id for mention in sample.mentions] == ["T1"]
    skipped = [problem for problem in corpus.warnings if problem.severity == "skipped"]
    assert sorted(problem.line for problem in skipped) == [2, 3]
    with pytest.raises(CorpusError):
        load_corpus(replace(slot, strict=True), tmp_path)


def test_a_file_of_another_format_is_an_error_that_names_its_first_line(tmp_path, slot):
    for name in "abc":
        (tmp_path / "train" / f"{name}.ann").write_text("1,Drug,0,7\n2,Drug,8,9\n")
    with pytest.raises(CorpusError) as caught:
        load_corpus(slot, tmp_path, splits=("train",))
    assert caught.value.line == 1 and "6 of 6 records" in caught.value.found


def test_offsets_that_are_off_by_a_constant_are_an_error_that_names_the_shift(tmp_path, slot):
    text = "aspirin, then ibuprofen and at last heparin helped"
    words = [(text.index(word), word) for word in ("aspirin", "ibuprofen", "heparin", "helped")]
    lines = [f"T{n}\tDrug {at + 2} {at + 2 + len(word)}\t{word}" for n, (at, word) in enumerate(words)]
    (tmp_path / "train" / "a.txt").write_text(text + "  ")
    (tmp_path / "train" / "a.ann").write_text("\n".join(lines))
    (problem,) = [p for p in check_corpus(slot, tmp_path) if p.severity == "error"]
    assert "4 of" in problem.found and "stand 2 character(s) earlier" in problem.found
    with pytest.raises(CorpusError, match="earlier"):
        load_corpus(slot, tmp_path, splits=("train",))


@pytest.mark.parametrize("shift", [-1, 1, 3])
def test_offsets_that_are_off_where_no_text_is_stored_are_an_error_that_names_the_shift(tmp_path, shift):
    """A shifted corpus of ShARe or THYME passed the check: these files have offsets alone."""
    text = "Patient took aspirin, then ibuprofen 400 mg and at last heparin, which helped."
    spans = [(at, at + len(word)) for word in ("aspirin", "ibuprofen", "heparin") if (at := text.index(word))]
    rows = {0: "", shift: ""}
    for by in rows:
        rows[by] = "".join(
            f"a.text||Disease_Disorder||C1||{start + by}||{end + by}\n" for start, end in spans
        )
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.text").write_text(text)
    known = task("semeval2014t7")
    for by, content in rows.items():
        (tmp_path / "train" / "a.pipe").write_text(content)
        found = [p.found for p in check_corpus(known, tmp_path) if p.severity == "error"]
        side = "later" if by < 0 else "earlier"
        assert [f"3 of them stand {abs(by)} character(s) {side}" in text for text in found] == [True] * bool(
            by
        )


def test_a_corpus_whose_offsets_all_lie_past_the_end_is_an_error(tmp_path):
    """Each mention counted twice as a record and once as rejected: never more than a half."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("short")
    (tmp_path / "train" / "a.ann").write_text("T1\tDrug 90 97\taspirin\nT2\tDrug 99 106\theparin\n")
    (problem,) = [p for p in check_corpus(task("semeval2021t6"), tmp_path) if p.severity == "error"]
    assert "2 of 2 records" in problem.found and problem.line == 1


def test_the_check_goes_past_every_bad_file(tmp_path, slot):
    (tmp_path / "train" / "a.ann").write_bytes(b"\xff")
    (tmp_path / "dev" / "d.ann").write_bytes(b"T1\tDrug 0 7\t\xff\n")
    problems = check_corpus(slot, tmp_path)
    assert [problem.path.name for problem in problems if problem.severity == "error"] == ["a.ann", "d.ann"]
    assert any("no file of split 'test'" in problem.found for problem in problems)


def test_a_document_in_two_folders_of_a_split_stands_once(tmp_path, slot):
    brat(tmp_path / "Train", ["a"])
    corpus = load_corpus(slot, tmp_path, splits=("train",))
    assert len(corpus.splits["train"]) == 3
    assert ["document 'a' again" in warning.found for warning in corpus.warnings] == [True]


def test_held_out_splits_part_the_documents_by_their_ids_alone(tmp_path):
    names = [f"note{number:03d}" for number in range(200)]
    brat(tmp_path / "few", names[:100])
    brat(tmp_path / "all", names)
    reports = task("maccrobat_temporal")
    split_of = {}
    for folder, expected in (("all", 200), ("few", 100)):
        corpus = load_corpus(reports, tmp_path / folder, splits=("train", "dev", "test"))
        placed = {s.document_id: split for split, samples in corpus.splits.items() for s in samples}
        assert len(placed) == expected == sum(map(len, corpus.splits.values()))
        assert all(sample.split == split for split, samples in corpus.splits.items() for sample in samples)
        split_of[folder] = placed
    assert split_of["few"].items() <= split_of["all"].items()
    sizes = Counter(split_of["all"].values())
    assert 18 <= sizes["dev"] <= 44 and 18 <= sizes["test"] <= 44  # 15 % of 200, within three sigma


def test_a_held_out_split_alone_is_what_it_is_beside_the_others(tmp_path):
    brat(tmp_path, [f"note{number:03d}" for number in range(60)])
    reports = task("maccrobat_temporal")
    alone = load_corpus(reports, tmp_path, splits=("dev",)).splits["dev"]
    assert alone == load_corpus(reports, tmp_path).splits["dev"]


def test_the_hash_follows_annotations_texts_and_names_but_not_the_place(tmp_path, slot):
    first = load_corpus(slot, tmp_path).sha256
    elsewhere = tmp_path / "elsewhere"
    brat(elsewhere / "train", ["a", "b", "c"])
    brat(elsewhere / "dev", ["d"])
    assert load_corpus(slot, elsewhere).sha256 == first
    (elsewhere / "train" / "a.txt").write_text("aspirin works against pain"[:22] + "pain")
    changed_text = load_corpus(slot, elsewhere).sha256
    (elsewhere / "train" / "a.ann").rename(elsewhere / "train" / "e.ann")
    (elsewhere / "train" / "a.txt").rename(elsewhere / "train" / "e.txt")
    assert len({first, changed_text, load_corpus(slot, elsewhere).sha256}) == 3


def written(folder):
    """The notes of `data practice`."""
    return generate(folder, PracticeConfig(documents=6), tasks=["semeval2014t7"])["semeval2014t7"]


def test_practice_text_is_public_and_marked_even_if_nobody_says_so(tmp_path):
    notes, root = task("semeval2014t7"), written(tmp_path)
    corpus = load_corpus(notes, root, splits=("train",))
    assert corpus.practice
    assert corpus.splits["train"][0].access == Access.PUBLIC == corpus.access
    assert task_spec(notes, corpus).practice


@pytest.mark.parametrize("name", ["practice001", "practice/n1", "Practice_notes/practice_12"])
def test_the_notes_of_a_general_practice_stay_restricted(tmp_path, name):
    root = tmp_path / "practice-corpus"
    path = root / "train" / name
    path.parent.mkdir(parents=True)
    path.with_suffix(".text").write_text("SYNTHETIC PRACTICE NOTE\nno pain")
    path.with_suffix(".pipe").write_text(f"{path.name}.text||Disease_Disorder||C0030193||27||31\n")
    notes = replace(task("semeval2014t7"), layout={"train": ["train/**/*.pipe"]})
    corpus = load_corpus(notes, root, splits=("train",))
    assert (corpus.practice, corpus.access) == (False, Access.RESTRICTED)


@pytest.mark.parametrize("change", ["a text", "an annotation", "the marker", "texts elsewhere"])
def test_a_practice_corpus_that_was_edited_is_published_no_more(tmp_path, change):
    notes, root = task("semeval2014t7"), written(tmp_path)
    if change == "the marker":
        (root / "practice.json").write_text("[]")
    elif change == "texts elsewhere":
        notes = replace(notes, options={"text_folder": "../../texts"})
    else:
        path = next(root.rglob("*.text" if change == "a text" else "*.pipe"))
        path.write_text(path.read_text() + "\n")
    corpus = load_corpus(notes, root, splits=("train", "dev", "test"))
    assert corpus.access == Access.RESTRICTED


def test_every_practice_corpus_fits_the_layout_of_its_task(tmp_path):
    for name, root in generate(tmp_path, PracticeConfig(documents=6)).items():
        known = task(name)
        corpus = load_corpus(known, root, splits=("train", "dev", "test"), practice=True)
        assert [len(samples) for samples in corpus.splits.values()] == [6, 4, 4], name
        assert check_corpus(known, root) == []


def test_real_notes_of_a_restricted_task_stay_restricted(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "n1.text").write_text("no pain")
    (tmp_path / "train" / "n1.pipe").write_text("n1.text||Disease_Disorder||C0030193||3||7\n")
    corpus = load_corpus(task("semeval2014t7"), tmp_path, splits=("train",))
    assert corpus.splits["train"][0].access == Access.RESTRICTED == corpus.access
    assert not corpus.practice


def test_one_real_note_among_synthetic_ones_keeps_a_corpus_restricted_and_marked(tmp_path):
    root = written(tmp_path)
    (root / "train" / "n1.text").write_text("no pain")
    (root / "train" / "n1.pipe").write_text("n1.text||Disease_Disorder||C0030193||3||7\n")
    corpus = load_corpus(task("semeval2014t7"), root, splits=("train",))
    assert corpus.practice  # no result of it may be quoted
    assert {sample.access for sample in corpus.splits["train"]} == {Access.RESTRICTED} == {corpus.access}


def test_a_damaged_restricted_file_is_named_by_path_and_line_and_not_quoted(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "n1.text").write_text("no pain")
    (tmp_path / "train" / "n1.pipe").write_text("n1.text||Disease_Disorder||C0030193||zyxqwv||7\n")
    with pytest.raises(CorpusError, match=r"n1.pipe:1: found .* offset <6 characters withheld>; expected a"):
        load_corpus(task("semeval2014t7"), tmp_path, splits=("train",))
    assert "zyxqwv" not in "".join(map(str, check_corpus(task("semeval2014t7"), tmp_path)))


def test_the_subtask_chooses_the_files():
    forum = task("semeval2017t3")
    assert globs(forum, "dev")[0] == "**/*dev-subtaskA.xml"
    forum.options["subtask"] = "B"
    assert globs(forum, "dev")[0] == "**/*QL-dev.xml"
    assert splits(forum) == ["train", "dev", "test"]


def test_a_limit_keeps_the_order_and_depends_on_the_seed_alone(tmp_path, slot):
    brat(tmp_path / "train", [f"n{number:02d}" for number in range(40)])
    train = load_corpus(slot, tmp_path).splits["train"]
    few = limit(train, 10, seed=3)
    assert len(few) == 10 and list(few) == sorted(few, key=train.index)
    assert few == limit(train, 10, seed=3) != limit(train, 10, seed=4)
    assert limit(train, None, seed=3) == limit(train, 99, seed=3) == train


@pytest.mark.parametrize(
    ("name", "folder", "train", "dev"),
    [
        ("ncbi_disease", "ncbi_disease", (592, 5134), (100, 787)),
        ("measeval2021t8", "measeval", (248, 2531), (65, 832)),
    ],
)
def test_real_corpora_have_the_documents_and_mentions_they_are_known_for(name, folder, train, dev):
    if not REAL.is_dir():
        pytest.skip("no real data")
    corpus = load_corpus(task(name), REAL / folder)
    for split, (documents, mentions) in (("train", train), ("dev", dev)):
        samples = corpus.splits[split]
        assert (len(samples), sum(len(sample.mentions) for sample in samples)) == (documents, mentions)


@pytest.mark.parametrize(
    ("subtask", "queries", "candidates"),
    [("A", 244, 2440), ("B", 50, 500), ("C", 50, 5000), ("D", 250, 7384)],
)
def test_every_subtask_of_the_forum_finds_its_real_development_file(subtask, queries, candidates):
    if not REAL.is_dir():
        pytest.skip("no real data")
    forum = task("semeval2017t3")
    forum.options["subtask"] = subtask
    samples = load_corpus(forum, REAL / "semeval2017t3", splits=("dev",)).splits["dev"]
    assert (len(samples), sum(len(sample.pairs) for sample in samples)) == (queries, candidates)
