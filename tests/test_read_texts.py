"""From options to texts in memory: which reader, which columns, which parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.datasets import Corpus, Document, TextData
from fallow.errors import DamagedData, InvalidValue
from fallow.options.checks import check
from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.tasks.parts import chosen_documents, chosen_parts, cut_at_line
from fallow.tasks.read_texts import read_texts


def csv(path, n=40):
    """Write rows whose texts are their numbers."""
    rows = "".join(f"row {i},{'ab'[i % 2]},{'ba'[i % 3 % 2]},words of {i}\n" for i in range(n))
    path.write_text("text,label,other,body\n" + rows, encoding="utf-8")
    return str(path)


def read(data, **given):
    options = TrainOptions(data=str(data), **given)
    check(options)
    return read_texts(resolve(options))


def corpus(*sizes):
    """Documents of as many characters, each of lines of five."""
    documents = tuple(
        Document(f"{place}", ("abcd\n" * (size // 5 + 1))[:size]) for place, size in enumerate(sizes)
    )
    return Corpus("toy", documents, (Document("held out", "out"),))


def titles(documents):
    return [one.title for one in documents]


class TestTables:
    def test_classes_of_a_table(self, tmp_path):
        data = read(csv(tmp_path / "a.csv"))
        assert isinstance(data, TextData)
        assert (len(data.train), len(data.test), data.classes) == (32, 8, ("a", "b"))
        for text, label in zip(data.train.texts, data.train.labels, strict=True):
            assert int(label) == int(text.split()[1]) % 2

    def test_other_columns_and_another_share(self, tmp_path):
        data = read(csv(tmp_path / "a.csv"), text="body", label="other", test_share=0.5)
        assert (len(data.train), len(data.test)) == (20, 20)
        for text, label in zip(data.test.texts, data.test.labels, strict=True):
            number = int(text.removeprefix("words of "))
            assert data.classes[label] == "ba"[number % 3 % 2]

    def test_several_columns_make_a_soft_label(self, tmp_path):
        data = read(csv(tmp_path / "a.csv"), label="label, other")
        assert data.train.soft is not None
        for text, soft in zip(data.train.texts, data.train.soft, strict=True):
            number = int(text.split()[1])
            said = ["ab"[number % 2], "ba"[number % 3 % 2]]
            assert soft.tolist() == [said.count("a") / 2, said.count("b") / 2]

    @pytest.mark.parametrize("label", ["label,label", "other, label,other "])
    def test_one_column_twice_is_not_two_annotators(self, tmp_path, label):
        said = rf"^Each column must be named once\. Found {label[:5]} twice\. Name --text and --label\.$"
        with pytest.raises(InvalidValue, match=said):
            read(csv(tmp_path / "a.csv"), label=label)

    @pytest.mark.parametrize("label", [",", " ", " , ,"])
    def test_no_column_at_all(self, tmp_path, label):
        with pytest.raises(InvalidValue, match="--label"):
            read(csv(tmp_path / "a.csv"), label=label)

    def test_a_text_column_alone_gives_documents(self, tmp_path):
        data = read(csv(tmp_path / "a.csv"), text="body")
        assert isinstance(data, Corpus)
        assert (len(data.train), len(data.test)) == (32, 8)
        assert all(one.text.startswith("words of ") for one in data.train + data.test)
        assert len(set(titles(data.train + data.test))) == 40

    def test_the_same_rows_are_held_out_for_classes_and_for_documents(self, tmp_path):
        path = csv(tmp_path / "a.csv")
        assert read(path).test.texts == tuple(one.text for one in read(path, task="language-model").test)

    def test_samples_and_validation_are_cut_as_parts_are(self, tmp_path):
        path = csv(tmp_path / "a.csv")
        want = chosen_parts(read(path), 12, 0.25)
        data = read(path, samples=12, validation=0.25)
        assert (data.train.texts, data.test.texts) == (want.train.texts, want.test.texts)
        assert (len(data.train), len(data.test)) == (12, 8)
        assert not set(data.test.texts) & set(read(path).test.texts)

    def test_samples_are_not_rows_for_a_language_model(self, tmp_path):
        data = read(csv(tmp_path / "a.csv"), task="language-model", samples=3)
        assert len(data.train) == 32, "its samples are windows, which come later"

    def test_documents_for_validation_are_rows_that_would_train(self, tmp_path):
        path = csv(tmp_path / "a.csv")
        whole, cut = read(path, task="language-model"), read(path, task="language-model", validation=0.25)
        assert sorted(titles(cut.train + cut.test)) == sorted(titles(whole.train))
        assert not set(titles(cut.test)) & set(titles(whole.test))
        assert len(cut.test) == pytest.approx(8, abs=1)

    def test_a_folder_of_tables(self, tmp_path):
        for name, n in (("train", 30), ("test", 6)):
            csv(tmp_path / f"{name}.csv", n)
        data = read(tmp_path, task="text")
        assert (len(data.train), len(data.test)) == (30, 6)
        documents = read(tmp_path, text="body")
        assert (len(documents.train), len(documents.test)) == (30, 6)


class TestTextFiles:
    def test_the_end_is_held_out(self, tmp_path):
        text = "".join(f"line {i}\n" for i in range(100))
        (tmp_path / "book.txt").write_text(text)
        data = read(tmp_path / "book.txt")
        assert data.name == "book.txt"
        assert titles(data.train + data.test) == ["book.txt", "book.txt (end)"]
        assert data.train[0].text + data.test[0].text == text
        assert len(data.test[0].text) / len(text) == pytest.approx(0.1, abs=0.01)
        assert data.test[0].text.startswith("line ")

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
    def test_another_share(self, tmp_path, share):
        (tmp_path / "book.TXT").write_text("abc\n" * 500)
        data = read(tmp_path / "book.TXT", test_share=share)
        assert len(data.test[0].text) / 2000 == pytest.approx(share, abs=0.002)

    @pytest.mark.parametrize("share", [-0.5, 0.0, 1.0, 1.25, 1.5, 2.5])
    def test_what_is_no_share(self, tmp_path, share):
        path = tmp_path / "book.txt"
        path.write_text("abc\n" * 500)
        with pytest.raises(InvalidValue, match="share"):
            read(path, test_share=share)

    def test_validation_is_the_end_of_what_is_left(self, tmp_path):
        text = "".join(f"line {i}\n" for i in range(100))
        (tmp_path / "book.txt").write_text(text)
        whole, cut = read(tmp_path / "book.txt"), read(tmp_path / "book.txt", validation=0.2)
        assert cut.train[0].text + cut.test[0].text == whole.train[0].text

    def test_a_mark_at_its_start_is_no_text(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("ünï\n".encode("utf-8-sig") * 1 + b"more\n" * 9)
        assert read(tmp_path / "a.txt").train[0].text.startswith("ünï\n")

    def test_it_has_no_columns(self, tmp_path):
        (tmp_path / "a.txt").write_text("abc\n" * 50)
        with pytest.raises(InvalidValue, match="--text"):
            read(tmp_path / "a.txt", text="body")

    @pytest.mark.parametrize(
        ("content", "kind", "said"),
        [
            (
                b"",
                InvalidValue,
                "leave something to train on and to hold out. Found 0 characters. Name a long",
            ),
            (b"a", InvalidValue, "Name a longer text, or another share."),
            (
                b"abc\n\n\xff\xfe\n",
                DamagedData,
                "must be UTF-8. Found the byte 0xFF at 5, in line 3. Save it as UTF-8.",
            ),
            ("nö\n".encode("utf-16"), DamagedData, "must be UTF-8. Found UTF-16. Save it as UTF-8."),
        ],
        ids=["nothing", "a letter", "no text", "utf-16"],
    )
    def test_files_that_hold_no_text(self, tmp_path, content, kind, said):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(kind) as refused:
            read(tmp_path / "a.txt")
        assert said in str(refused.value)
        assert type(refused.value) is kind

    def test_what_is_no_file(self, tmp_path):
        (tmp_path / "folder.txt").mkdir()
        for name, said in (("folder.txt", "a regular file. Found a folder"), ("nowhere.txt", "no such file")):
            with pytest.raises(InvalidValue, match=said):
                read(tmp_path / name)


REFUSED = [
    ("digits", "text", "--task text needs texts. Found --data digits. Name texts, or another --task."),
    ("digits", "language-model", "--task language-model needs texts. Found --data digits."),
    ("a.npz", "text", "--task text needs texts. Found --data a.npz."),
    ("a.txt", "text", "--task text needs texts with a class each. Found a.txt. Name a table, or --task lang"),
    ("nowhere.csv", "text", "The data nowhere.csv must exist."),
    ("nowhere.jsonl", "language-model", "The data nowhere.jsonl must exist."),
]


@pytest.mark.parametrize(("data", "task", "said"), REFUSED)
def test_data_that_are_for_something_else(data, task, said):
    with pytest.raises(InvalidValue) as refused:
        read(data, task=task)
    assert said in str(refused.value)


class TestChosenDocuments:
    def test_nothing_asked_for_changes_nothing(self):
        whole = corpus(100, 200)
        assert chosen_documents(whole, None) is whole

    @given(
        sizes=st.lists(st.integers(1, 60), min_size=2, max_size=9),
        share=st.floats(0.01, 0.99, allow_nan=False),
    )
    def test_whole_documents_go_and_are_about_the_share(self, sizes, share):
        whole = corpus(*sizes)
        cut = chosen_documents(whole, share)
        assert sorted(titles(cut.train + cut.test)) == sorted(titles(whole.train))
        assert titles(cut.train) == sorted(titles(cut.train), key=int)
        assert titles(cut.test) == sorted(titles(cut.test), key=int)
        assert cut.train
        assert cut.test
        held = sum(len(one.text) for one in cut.test)
        assert held < share * sum(sizes) + max(sizes), "no document more than the share needs"
        if len(cut.train) > 1:
            assert held >= share * sum(sizes)

    def test_the_draw_depends_on_their_texts_alone(self):
        documents = tuple(Document(f"{i}", f"{i:03d}\n" * 5) for i in range(12))
        whole = Corpus("toy", documents, ())
        one = chosen_documents(whole, 0.3)
        assert titles(one.test) != ["0", "1", "2", "3"]
        assert set(titles(one.test)) < set(titles(chosen_documents(whole, 0.6).test))
        renamed = tuple(Document(f"x{one.title}", one.text) for one in reversed(documents))
        other = chosen_documents(Corpus("toy", renamed, ()), 0.3)
        assert sorted(titles(other.test)) == sorted(f"x{title}" for title in titles(one.test))

    def test_of_one_document_it_is_the_end(self):
        cut = chosen_documents(corpus(100), 0.25)
        assert [len(one.text) for one in cut.train + cut.test] == [75, 25]
        assert titles(cut.test) == ["0 (end)"]

    def test_without_a_document(self, tmp_path):
        (tmp_path / "a.csv").write_text("text\n" + '""\n' * 20)
        with pytest.raises(InvalidValue):
            read(tmp_path / "a.csv", text="text", validation=0.2)


class TestCutAtLine:
    @given(
        lines=st.lists(st.text(alphabet="ab ü", max_size=4), min_size=20, max_size=40),
        share=st.floats(0.1, 0.6, allow_nan=False),
    )
    def test_the_parts_are_the_whole_and_a_line_begins_the_second(self, lines, share):
        text = "\n".join([*lines, "the end"])
        train, test = cut_at_line(Document("a", text), share)
        assert train.text + test.text == text
        assert (train.title, test.title) == ("a", "a (end)")
        assert train.text.endswith("\n")
        at = round((1 - share) * len(text))
        assert len(train.text) <= at
        assert "\n" not in text[len(train.text) : at], "no later line would do"

    def test_without_a_line_it_is_cut_anywhere(self):
        train, test = cut_at_line(Document("a", "abcdefghij"), 0.3)
        assert (train.text, test.text) == ("abcdefg", "hij")

    def test_a_title_before_one_long_line(self):
        train, test = cut_at_line(Document("a", "A title\n" + "word " * 2000), 0.1)
        assert len(test.text) < 0.2 * (len(train.text) + len(test.text))

    @pytest.mark.parametrize(("text", "share"), [("", 0.1), ("a", 0.5), ("ab", 0.01), ("abc\n", 0.99)])
    def test_too_short(self, text, share):
        with pytest.raises(
            InvalidValue, match=r"Found \d characters?\. Name a longer text, or another share"
        ):
            cut_at_line(Document("a", text), share)
