"""Datasets of tokens: batches against rows, and windows in which every token is predicted once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fallow.datasets.tokenizing import Encoded
from fallow.datasets.tokens import STEP, TokenDataset, WindowDataset
from fallow.errors import InvalidValue

PAD = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, 90), max_size=40), min_size=1, max_size=7)


def encoded(rows):
    ids = [token for row in rows for token in row]
    edges = np.cumsum([0, *map(len, rows)])
    return Encoded(np.array(ids, np.int32), edges.astype(np.int64), 0)


def named(rows):
    """Return documents of these lengths in which no token comes twice."""
    edges = np.cumsum([0, *rows])
    return encoded([list(range(a, b)) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)])


class TestTokenDataset:
    @given(DOCUMENTS, st.data())
    def test_a_batch_is_its_rows_filled_up(self, rows, data):
        dataset = TokenDataset(encoded(rows), torch.arange(len(rows)), PAD)
        index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=9))
        tokens, labels = dataset.__getitems__(index)
        assert (tokens.dtype, labels.tolist()) == (torch.int64, index)
        longest = max(1, *(len(rows[i]) for i in index))
        width = tokens.shape[1]
        assert longest <= width
        assert width == min(-(-longest // STEP) * STEP, max(1, *map(len, rows)))
        assert tokens.tolist() == [rows[i] + [PAD] * (width - len(rows[i])) for i in index]

    @given(DOCUMENTS)
    def test_one_is_a_batch_of_one(self, rows):
        dataset = TokenDataset(encoded(rows), torch.arange(len(rows)), PAD)
        assert len(dataset) == len(rows)
        for place in range(len(rows)):
            tokens, label = dataset[place]
            batch, labels = dataset.__getitems__([place])
            assert torch.equal(tokens, batch[0])
            assert label == labels[0] == place

    def test_kinds_of_indices_and_soft_labels(self):
        soft = torch.rand(3, 4)
        dataset = TokenDataset(named([2, 0, 5]), soft, PAD)
        for index in ([2, 0], (2, 0), torch.tensor([2, 0]), np.array([2, 0]), range(2, -1, -2)):
            tokens, labels = dataset.__getitems__(index)
            assert tokens.tolist() == [[2, 3, 4, 5, 6], [0, 1, PAD, PAD, PAD]]
            assert torch.equal(labels, soft[[2, 0]])
        assert dataset.__getitems__([])[0].shape[0] == 0

    def test_in_a_loader(self):
        rows = [[i] * (1 + 5 * i) for i in range(6)]
        dataset = TokenDataset(encoded(rows), torch.arange(6), PAD)
        batches = list(DataLoader(dataset, 2, collate_fn=TokenDataset.collate))
        assert [batch.shape for batch, _ in batches] == [(2, 16), (2, 16), (2, 26)]
        assert torch.cat([labels for _, labels in batches]).tolist() == list(range(6))

    def test_without_a_text_or_without_a_token(self):
        assert len(TokenDataset(encoded([]), torch.zeros(0), PAD)) == 0
        empty = TokenDataset(encoded([[], []]), torch.zeros(2), PAD)
        assert empty.__getitems__([1, 0])[0].tolist() == [[PAD], [PAD]]

    def test_as_many_labels_as_texts(self):
        with pytest.raises(InvalidValue, match=r"Each text must have one label. Found 2 labels and 3 texts"):
            TokenDataset(named([1, 1, 1]), torch.zeros(2), PAD)

    def test_beyond_the_end(self):
        dataset = TokenDataset(named([1, 2]), torch.arange(2), PAD)
        assert [label.item() for _, label in dataset] == [0, 1]
        with pytest.raises(IndexError):
            dataset[2]

    def test_from_the_end_the_tokens_are_those_of_the_label_or_it_is_refused(self):
        dataset = TokenDataset(named([1, 2]), torch.arange(2), PAD)
        try:
            tokens, label = dataset[-1]
        except (IndexError, InvalidValue):
            return
        assert (tokens.tolist(), label.item()) == ([1, 2], 1)


class TestWindowDataset:
    @given(DOCUMENTS, st.integers(1, 9))
    def test_every_token_but_the_first_of_its_document_is_predicted_once_after_those_before(
        self, rows, length
    ):
        if max(map(len, rows)) < 2:
            with pytest.raises(InvalidValue, match="two tokens or more"):
                WindowDataset(encoded(rows), length)
            return
        dataset = WindowDataset(encoded(rows), length)
        expected = [
            (document, row[start : start + length + 1])
            for document, row in enumerate(rows)
            for start in range(0, len(row) - 1, length)
        ]
        assert len(dataset) == len(expected)
        assert dataset.document.tolist() == [document for document, _ in expected]
        assert dataset.sizes.tolist() == [len(tokens) - 1 for _, tokens in expected]
        windows = dataset.__getitems__(range(len(dataset)))
        assert (windows.dtype, windows.shape) == (torch.int64, (len(expected), length + 1))
        filling = [tokens + [-100] * (length + 1 - len(tokens)) for _, tokens in expected]
        assert windows.tolist() == filling
        told = [dataset.ids(i).tolist() for i in range(len(dataset))]
        assert told == [tokens[1:] for _, tokens in expected]

    @given(st.lists(st.integers(0, 5), max_size=9))
    def test_take_gives_those_windows(self, rows):
        whole = WindowDataset(named([7, 1, 0, 9, 2]), 3)
        assert len(whole) == 6
        part = whole.take(np.array(rows, np.int64))
        assert len(part) == len(rows)
        assert part.document.tolist() == whole.document[rows].tolist()
        index = range(len(rows))
        assert torch.equal(part.__getitems__(index), whole.__getitems__(rows))
        assert [part.ids(i).tolist() for i in index] == [whole.ids(row).tolist() for row in rows]
        assert len(whole) == 6

    def test_one_is_a_batch_of_one_and_a_loader_gives_them_all(self):
        dataset = WindowDataset(named([7, 9]), 3)
        loaded = torch.cat(list(DataLoader(dataset, 2, collate_fn=WindowDataset.collate)))
        assert torch.equal(loaded, torch.stack([dataset[i] for i in range(len(dataset))]))
        assert torch.equal(dataset[-1], dataset[len(dataset) - 1])
        assert dataset.__getitems__(torch.tensor([4, 0])).tolist() == [
            [13, 14, 15, -100],
            [0, 1, 2, 3],
        ]
        with pytest.raises(IndexError):
            dataset[len(dataset)]

    @pytest.mark.parametrize(("lengths", "found"), [([], 0), ([0], 0), ([1, 1, 0, 1], 3)])
    def test_nothing_to_predict(self, lengths, found):
        with pytest.raises(InvalidValue, match=rf"two tokens or more. Found {found} in all. Name"):
            WindowDataset(named(lengths), 4)

    @pytest.mark.parametrize("length", [0, -1])
    def test_windows_that_predict_nothing_are_refused(self, length):
        with pytest.raises(InvalidValue, match=rf"at least 1.*{length}"):
            WindowDataset(named([5]), length)
