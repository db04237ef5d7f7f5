"""The networks for text: shapes, what may look at what, and that they learn."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fallow.errors import FallowError, InvalidValue
from fallow.models import SmallGPT, SmallTransformer
from fallow.models.transformer import Block, small_weights, word_dropout

pytestmark = pytest.mark.usefixtures("_seed")

WORDS, LENGTH, PAD = 40, 24, 0


def classifier(**changes):
    sizes = {"vocabulary": WORDS, "classes": 3, "length": LENGTH, "pad": PAD, "width": 16, "layers": 2}
    return SmallTransformer(**{**sizes, **changes})


def language_model(**changes):
    return SmallGPT(**{"vocabulary": WORDS, "length": LENGTH, "width": 16, "layers": 2, **changes})


def lively(model):
    """Return a network in eval mode whose every parameter has a part in its outputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def words(*shape):
    return torch.randint(1, WORDS, shape)


def learn(model, loss_of, steps=40, rate=0.01):
    """Descend by steps of one size, smaller and smaller, and return the last loss."""
    for step in range(steps):
        loss = loss_of(model)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * (1 - step / steps) * gradient.sign()
    return loss.item()


@pytest.mark.parametrize("make", [classifier, language_model])
class TestBoth:
    @pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 7), (2, LENGTH), (0, 5)])
    def test_shapes_and_gradients(self, make, rows, length):
        model = make(dropout=0.1)
        logits = model(words(rows, length))
        assert logits.shape == ((rows, 3) if make is classifier else (rows, length, WORDS))
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert (
            length == 1
            or not rows
            or all(p.grad.any() for name, p in model.named_parameters() if "weight" in name)
        )

    def test_rows_do_not_see_each_other(self, make):
        model, tokens = lively(make()), words(4, 9)
        other = tokens.clone()
        other[1:] = words(3, 9)
        assert torch.allclose(model(tokens)[0], model(other)[0], atol=1e-5)
        assert torch.allclose(model(tokens)[0], model(tokens[:1])[0], atol=1e-5)
        assert not torch.allclose(model(tokens)[1], model(other)[1], atol=1e-2)

    def test_the_order_of_words_counts(self, make):
        model, tokens = lively(make()), torch.arange(1, 9)[None]
        assert not torch.allclose(model(tokens)[:, -1], model(tokens.flip(1).roll(-1, 1))[:, -1], atol=1e-2)

    def test_a_row_that_is_too_long(self, make):
        model = make()
        with pytest.raises(
            InvalidValue, match=rf"at most {LENGTH} tokens. Found {LENGTH + 1}. Cut them, or set a larger"
        ):
            model(words(2, LENGTH + 1))

    def test_eval_is_the_same_twice_and_training_is_not(self, make):
        model, tokens = lively(make(dropout=0.5)), words(4, 9)
        assert torch.equal(model(tokens), model(tokens))
        model.train()
        assert not torch.allclose(model(tokens), model(tokens), atol=1e-3)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"vocabulary": 0}, "`vocabulary` must be at least 1. Found 0"),
            ({"length": 0}, "`length` must be at least 1"),
            ({"layers": 0}, "`layers` must be at least 1"),
            ({"heads": 0}, "`heads` must be at least 1"),
            ({"heads": "4"}, "`heads` must be a whole number. Found '4'"),
            ({"width": 10}, "`width` must be a multiple of the 4 heads. Found 10"),
            ({"width": 0}, "`width` must be at least 1. Found 0"),
            ({"dropout": 1.5}, "`dropout`.*1.5"),
            ({"dropout": float("nan")}, "`dropout`.*nan"),
        ],
    )
    def test_wrong_arguments(self, make, arguments, message):
        with pytest.raises(FallowError, match=message):
            make(**arguments)


class TestSmallTransformer:
    def test_what_fills_up_changes_nothing(self):
        model = lively(classifier())
        lengths = (1, 5, 12, 16)
        rows = [words(length) for length in lengths]
        for width in (16, 17, LENGTH):
            batch = torch.full((4, width), PAD)
            for place, row in enumerate(rows):
                batch[place, : len(row)] = row
            alone = torch.cat([model(row[None]) for row in rows])
            assert torch.allclose(model(batch), alone, atol=1e-4)
        changed = batch.clone()
        changed[:, 0] = 1 + batch[:, 0] % (WORDS - 1)
        assert ((model(changed) - model(batch)).abs().amax(1) > 1e-2).all()

    def test_what_fills_up_has_no_gradient(self):
        model = classifier()
        batch = torch.cat([words(3, 6), torch.full((3, 4), PAD)], 1)
        model(batch).square().sum().backward()
        assert not model.embedding.weight.grad[PAD].any()
        assert not model.rarity.grad[PAD]
        assert not model.position.grad[6:].any()
        assert model.embedding.weight.grad[batch[0, 0]].any()

    def test_another_sign_that_fills_up(self):
        model = lively(classifier(pad=7))
        tokens = torch.tensor([[1, 2, 0]])
        assert torch.allclose(model(tokens), model(torch.tensor([[1, 2, 0, 7, 7]])), atol=1e-5)
        assert not torch.allclose(model(tokens), model(torch.tensor([[1, 2, 0, 0, 0]])), atol=1e-2)

    def test_a_text_of_nothing_is_finite(self):
        model = classifier()
        logits = model(torch.full((2, 5), PAD))
        logits.sum().backward()
        assert logits.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_the_mask_leaves_its_tokens_alone(self):
        tokens = torch.tensor([[3, PAD, PAD], [PAD, 4, PAD]])
        before = tokens.clone()
        assert classifier().mask(tokens).tolist() == [[True, False, False], [True, True, False]]
        assert torch.equal(tokens, before)

    def test_rarity_is_where_it_begins(self):
        rarity = torch.rand(WORDS)
        model = classifier(rarity=rarity)
        assert torch.equal(model.rarity.detach(), rarity)
        with torch.no_grad():
            model.rarity.zero_()
        assert rarity.any()
        assert torch.equal(classifier().rarity.detach(), torch.ones(WORDS))
        with pytest.raises(InvalidValue, match=r"`rarity` must be \(40,\). Found \(39,\)"):
            classifier(rarity=torch.ones(WORDS - 1))

    @pytest.mark.parametrize("share", [2.0, -0.5, float("nan")])
    def test_word_dropout_that_makes_no_sense(self, share):
        with pytest.raises(FallowError, match=r"`word_dropout`"):
            classifier(word_dropout=share)

    def test_word_dropout_is_for_training_alone(self):
        model, tokens = lively(classifier(dropout=0.0, word_dropout=0.5)), words(4, 12)
        model.dropout.p = 0.0
        expected = model(tokens)
        model.train()
        assert not torch.allclose(model(tokens), expected, atol=1e-2)
        model.word_dropout = 0.0
        assert torch.allclose(model(tokens), expected, atol=1e-5)

    def test_it_learns_which_word_is_there(self):
        tokens = torch.randint(4, WORDS, (96, 10))
        labels = torch.arange(96) % 3
        tokens[torch.arange(96), torch.randint(0, 10, (96,))] = 1 + labels
        model = classifier(layers=1, dropout=0.0, word_dropout=0.0)
        learn(model, lambda model: cross_entropy(model(tokens), labels))
        assert (model.eval()(tokens).argmax(1) == labels).float().mean() > 0.95


class TestSmallGPT:
    @pytest.mark.parametrize("place", [0, 1, 7, 15])
    def test_a_later_token_never_changes_an_earlier_logit(self, place):
        model, tokens = lively(language_model()), words(3, 16)
        other = tokens.clone()
        other[:, place:] = 1 + (tokens[:, place:] + 5) % (WORDS - 1)
        difference = (model(tokens) - model(other)).abs().amax(2)
        assert (difference[:, :place] < 1e-5).all()
        assert (difference[:, place] > 1e-2).all()

    def test_embedding_and_output_layer_share_their_weight(self):
        for model in (language_model(), copy.deepcopy(language_model()), language_model().double()):
            assert model.head.weight is model.embedding.weight
            names = [name for name, _ in model.named_parameters()]
            assert "embedding.weight" in names
            assert "head.weight" not in names
        other = language_model()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.embedding.weight.zero_()
        assert not other.head.weight.any()
        assert other.head.bias is None

    def test_the_output_layer_gets_what_is_hidden(self):
        model, tokens = lively(language_model()), words(2, 6)
        assert model.hidden(tokens).shape == (2, 6, 16)
        assert torch.equal(model.head(model.hidden(tokens)), model(tokens))

    def test_it_begins_with_all_tokens_about_as_likely(self):
        logits = language_model()(words(8, 16))
        loss = cross_entropy(logits.flatten(0, 1), words(8, 16).flatten())
        assert loss.item() == pytest.approx(torch.tensor(float(WORDS)).log().item(), abs=0.1)

    def test_it_learns_a_row_by_heart(self):
        row = words(1, 17)
        model = language_model(layers=1)
        loss = learn(model, lambda model: cross_entropy(model(row[:, :-1])[0], row[0, 1:]), 100)
        assert loss < 0.3


class TestBlock:
    def reference(self, block, width, heads, wide):
        """Return torch's own layer with the weights of a block."""
        layer = nn.TransformerEncoderLayer(
            width, heads, wide * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        pairs = {
            "self_attn.in_proj_": block.attend,
            "self_attn.out_proj.": block.merge,
            "linear1.": block.up,
            "linear2.": block.down,
            "norm1.": block.norm_in,
            "norm2.": block.norm_out,
        }
        state = {
            f"{name}{end}": getattr(part, end) for name, part in pairs.items() for end in ("weight", "bias")
        }
        layer.load_state_dict(state)
        return layer

    @pytest.mark.parametrize(("width", "heads", "wide"), [(8, 2, 4), (12, 3, 2), (6, 1, 1)])
    def test_it_agrees_with_torch(self, width, heads, wide):
        block = lively(Block(width, heads, wide)).train()
        layer, x = self.reference(block, width, heads, wide), torch.randn(3, 7, width)
        assert torch.allclose(block(x), layer(x), atol=1e-4)
        mask = torch.rand(3, 7) > 0.4
        mask[:, 0] = True
        assert torch.allclose(block(x, mask), layer(x, src_key_padding_mask=~mask), atol=1e-4)
        later = torch.ones(7, 7, dtype=torch.bool).triu(1)
        assert torch.allclose(block(x, causal=True), layer(x, src_mask=later), atol=1e-4)
        assert not torch.allclose(block(x), block(x, causal=True), atol=1e-2)


def test_small_weights():
    model = nn.Sequential(nn.Embedding(300, 64), nn.Linear(64, 300), nn.LayerNorm(300))
    small_weights(model, std=0.5)
    for part in model[:2]:
        assert part.weight.std().item() == pytest.approx(0.5, rel=0.05)
        assert part.weight.mean().item() == pytest.approx(0, abs=0.02)
    assert not model[1].bias.any()
    assert model[2].weight.eq(1).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_word_dropout_leaves_out_a_share_of_what_counts(share):
    mask = torch.arange(100) < torch.tensor([[80], [3], [1]]).repeat(20, 1)
    found = word_dropout(mask, share)
    assert found.shape == mask.shape
    assert not (found & ~mask).any()
    assert found[:, 0].all()
    rest = mask[:, 1:].sum()
    assert (found[:, 1:].sum() / rest).item() == pytest.approx(1 - share, abs=0.05)
