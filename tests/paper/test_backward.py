"""Gradients: every operation, and every weight of whole models, against central differences; dropout; losses."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest
from models import NUMPY, backend, config, model, tokens
from operands import Case, each

from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.errors import InputError
from glimmer_ref.instruments import Dropout, MacCounter, Tape, Trace
from glimmer_ref.ops import Ops, bind, interface, numpy_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.interface import OPERANDS
from glimmer_ref.paper.decoding import linear_term, log_likelihood
from glimmer_ref.paper.distillation import Distillation, Loss, distribution, log_p_lm
from glimmer_ref.paper.fid import fid
from glimmer_ref.paper.glimmer import rank
from glimmer_ref.paper.lumen import encode_passages, lumen
from glimmer_ref.paper.systems import FROM_TEXT, loss
from glimmer_ref.params.model import Model, leaves, prepare_params, random
from glimmer_ref.ragged import Ints, Tokens

pytestmark = pytest.mark.once
STEP = 1e-5
CLOSE = 1e-8  # largest relative error seen: 4e-10 for an operation, 4e-9 for a number of a whole model
TOGETHER = 1e-6  # the same where a whole weight is moved at once, relative to the sum of its gradient: 5e-7


def apart(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest number."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def differences(value: Callable[[], float], x: np.ndarray) -> np.ndarray:
    """d value / dx number by number, from x moved both ways and put back."""
    result = np.empty_like(x)
    for at in np.ndindex(*x.shape):
        before = x[at]
        ends = []
        for step in (STEP, -STEP):
            x[at] = before + step
            ends.append(value())
        x[at] = before
        result[at] = (ends[0] - ends[1]) / (2 * STEP)
    return result


# Operations by themselves.

CASES = {
    "one": Case([(1, 1)], heads=1, c=2, seed=4),
    "ragged": Case([(4, 4), (1, 6), (3, 7)], heads=2, c=3),
    "many": Case([(2, 3)] * 5, heads=3, c=1, seed=2),
}


def arguments(case: Case, name: str, bias: bool, causal: bool, keep: bool) -> list[Any]:
    args = list(case.all("float64", bias, causal)[name])
    if name == "attention" and keep:
        size = case.heads * int((case.n * case.n_keys).sum())
        args.append((case.rng.random(size) >= 0.3) / 0.7)
    return args


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", OPERANDS)
def test_an_operation(name: str, case: str, bias: bool) -> None:
    """Repeated ids and repeated sequences are among the operands; attention is causal once, and drops once."""
    for causal, keep in ((True, False), (False, True)):
        args = arguments(CASES[case], name, bias, causal, keep)
        y = getattr(NUMPY, name)(*args)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        before = each(np.copy, tuple(args))
        got = NUMPY.backward[name](dy, *args)
        operands = [args[i] for i in OPERANDS[name]]
        for x, gradient in zip(operands, got, strict=True):
            if x is None:
                assert gradient is None
                continue
            expected = differences(lambda: float((getattr(NUMPY, name)(*args) * dy).sum()), x)  # noqa: B023
            assert gradient.dtype == x.dtype
            assert np.abs(gradient - expected).max() <= CLOSE * max(np.abs(expected).max(), 0.1)
        for old, new in zip(before, args, strict=True):
            if isinstance(old, np.ndarray):
                np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", OPERANDS)
def test_float32_stays(name: str) -> None:
    """Cotangents come in the dtype of the operands, and near those of float64."""
    results = []
    for dtype in ("float64", "float32"):
        cast = [x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in ARGS[name]]
        y = getattr(NUMPY, name)(*cast)
        results.append(NUMPY.backward[name](np.ones_like(y), *cast))
        assert all(g is None or g.dtype == dtype for g in results[-1])
    for exact, rough in zip(*results, strict=True):
        if exact is not None:
            assert np.abs(exact - rough).max() <= 1e-5 * max(np.abs(exact).max(), 1)


ARGS = {name: arguments(CASES["ragged"], name, True, True, True) for name in OPERANDS}


def test_a_backward_takes_its_forwards_arguments() -> None:
    for name in OPERANDS:
        backward = interface.BACKWARD[f"{name}_backward"].parameters
        assert list(backward) == ["dy", *interface.FORWARD[name].parameters]
    without = {"to_device", "to_host", "pack", "pack_table", "attention_probs", "argmax"}
    assert set(interface.OPERATIONS) - set(OPERANDS) == without
    assert len(interface.BACKWARD) == len(OPERANDS)


@pytest.mark.parametrize("name", OPERANDS)
def test_every_operand_gets_a_cotangent(name: str) -> None:
    """Which arguments these are is declared, not read from an annotation."""
    args = ARGS[name]
    got = NUMPY.backward[name](np.ones_like(getattr(NUMPY, name)(*args)), *args)
    assert len(got) == len(OPERANDS[name])
    for i, cotangent in zip(OPERANDS[name], got, strict=True):
        assert cotangent is None or cotangent.shape == args[i].shape


# Whole models. Every number of every weight is moved, so they are as small as they can be.

TINY = T5Config(
    vocab_size=9, d_model=4, d_kv=2, d_ff=3, num_layers=3, num_decoder_layers=1, num_heads=2,
    relative_attention_num_buckets=4, relative_attention_max_distance=5,
)  # fmt: skip
QUESTION, PASSAGES = tokens([2, 3], 2, 9), tokens([3, 1, 2, 4, 2, 3, 1], 3, 9)
COUNTS, TARGET = np.array([4, 3]), tokens([2, 4], 9, 9)


def tiny(alpha: str = "2/3", beta: str = "1/2", t5: T5Config = TINY, **more: Any) -> GlimmerConfig:
    return config(alpha, beta, t5, **more)


def batch_loss(ops: Ops, w: Model, system: str = "glimmer", frozen: bool = False, **more: Any) -> Loss:
    """The loss of two questions with four and three passages, two of which are read."""
    memory = ops.frozen() if frozen else ops
    passages = PASSAGES if system in FROM_TEXT else encode_passages(memory, w, PASSAGES)
    return loss(ops, w, system, QUESTION, passages, COUNTS, TARGET, 2, **more)


def gradients(w: Model, run: Callable[[Ops], Loss]) -> tuple[Loss, dict[str, np.ndarray]]:
    tape = Tape(NUMPY)
    got = run(tape)
    return got, tape.gradients(got.output_grads, leaves(w))


def hold(w: Model, run: Callable[[Ops], Loss]) -> None:
    """Every weight's gradient against differences in two random directions."""
    _, got = gradients(w, run)
    against_directions(w, got, lambda: run(NUMPY).value)


def against_directions(w: Model, got: dict[str, np.ndarray], value: Callable[[], float]) -> None:
    """Gradients against differences of `value` along two random corners of each weight's cube."""
    rng = np.random.default_rng(5)
    for name, x in leaves(w).items():
        scale = max(float(np.abs(got[name]).sum()), 1e-3)
        for _ in range(2):
            direction, before, ends = rng.choice([-1.0, 1.0], x.shape), x.copy(), []
            for step in (STEP, -STEP):
                x[...] = before + step * direction
                ends.append(value())
            x[...] = before
            assert abs((ends[0] - ends[1]) / (2 * STEP) - (got[name] * direction).sum()) <= TOGETHER * scale, name


FULL = Distillation(weight=0.7, tau=1.3, gradient=True)


@pytest.mark.slow
def test_every_number_of_a_whole_glimmer() -> None:
    w = model(NUMPY, tiny(score_norm=True))
    run = partial(batch_loss, w=w, distillation=FULL)
    got, of = gradients(w, run)
    assert set(got.terms) == {"lm", "pdist"}
    assert any(set(s) != {0, 1} for s in got.selected)
    for name, x in leaves(w).items():
        expected = differences(lambda: run(NUMPY).value, x)
        assert np.abs(expected).max() > 1e-4, name
        assert apart(of[name], expected) < CLOSE * 10, name


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("fid", tiny()),
        ("lumen", tiny()),
        ("glimmer", tiny(question_encoder="separate", pool="mean")),
        ("glimmer", tiny(reranker="separate")),
        ("glimmer", tiny(decoder_question=False, passage_offset=48, beta="0")),
        ("glimmer", tiny(t5=replace(TINY, feed_forward_proj="relu", scale_decoder_outputs=True))),
    ],
    ids=["fid", "lumen", "separate question, mean pool", "separate reranker", "no question, offset, beta 0", "T5 1.0"],
)
def test_every_weight_of_the_others(system: str, settings: GlimmerConfig) -> None:
    w = model(NUMPY, settings, seed=1)
    how = FULL if settings.beta else None  # where scores all tie, moving a weight changes the choice
    if how is None:
        hold(
            w,
            partial(batch_loss, w=w, system=system, distillation=replace(FULL, weight=0.0), override=lambda s, r: LAST),
        )
    else:
        hold(w, partial(batch_loss, w=w, system=system, distillation=how))


LAST = [np.array([3, 1]), np.array([2])]


@pytest.mark.parametrize("change", [{"direction": "reverse"}, {"likelihood": "mean"}, {"tau": 0.2, "weight": 10}])
def test_distillation_as_it_can_be_chosen(change: dict[str, Any]) -> None:
    w = model(NUMPY, tiny(), seed=2)
    hold(w, partial(batch_loss, w=w, distillation=replace(FULL, **change)))


def test_p_lm_is_data_unless_asked_for() -> None:
    """D9: the loss's gradient is that of KL(p_rank || a constant)."""
    w = model(NUMPY, tiny(), seed=3)
    passages = encode_passages(NUMPY, w, PASSAGES)
    ranked = rank(NUMPY, w, QUESTION, passages, COUNTS)
    constant = log_p_lm(NUMPY, w, ranked, COUNTS, TARGET, "sum")
    got, of = gradients(w, partial(batch_loss, w=w))

    def distilled(ops: Ops) -> Loss:
        scores = rank(ops, w, QUESTION, encode_passages(ops, w, PASSAGES), COUNTS).scores
        return Loss(
            {"pdist": linear_term(ops, ops.rank_kl(scores, constant, COUNTS, 1.0, "printed"), np.full(2, 0.5))},
            None,
            [],
        )

    hold(w, distilled)
    _, kl = gradients(w, distilled)
    _, lm = gradients(w, partial(batch_loss, w=w, distillation=Distillation(0.0)))
    assert distilled(NUMPY).value == pytest.approx(got.terms["pdist"].value, rel=1e-12)
    assert all(np.abs(of[name] - kl[name] - lm[name]).max() < 1e-13 for name in of)
    _, through = gradients(w, partial(batch_loss, w=w, distillation=Distillation(gradient=True)))
    assert apart(through["decoder.layer_0.cross_attention.q"], of["decoder.layer_0.cross_attention.q"]) > 1e-3


def test_distillation_is_its_formula() -> None:
    """KL between the two softmaxes of section 3.2, from passages that are read one by one."""
    w = model(NUMPY, tiny(), seed=4)
    for how in (Distillation(2.0, 0.5), Distillation(1.0, 2.0, "reverse", "mean")):
        got = batch_loss(NUMPY, w, distillation=how)
        kls, start = [], 0
        for q, k in enumerate(COUNTS):
            one, n = Tokens.of([QUESTION[q]]), len(TARGET[q]) if how.likelihood == "mean" else 1
            alone = []
            for i in range(start, start + k):
                p = encode_passages(NUMPY, w, Tokens.of([PASSAGES[i]]))
                read = loss(NUMPY, w, "glimmer", one, p, np.array([1]), Tokens.of([TARGET[q]]), 1, Distillation(0.0))
                alone.append(-read.terms["lm"].value * len(TARGET[q]) / n)
            scores = got.scores[start : start + k] / how.tau
            p_rank, p_lm = (np.exp(x) / np.exp(x).sum() for x in (scores, np.array(alone) / how.tau))
            np.testing.assert_allclose(distribution(got.scores, COUNTS, how.tau)[start : start + k], p_rank, rtol=1e-12)
            a, b = (p_lm, p_rank) if how.direction == "reverse" else (p_rank, p_lm)
            kls.append((a * np.log(a / b)).sum())
            start += k
        assert got.terms["pdist"].value == pytest.approx(how.weight * np.mean(kls), rel=1e-10)


def test_the_language_loss_is_the_mean_per_target_token() -> None:
    w = model(NUMPY, tiny())
    got = batch_loss(NUMPY, w, "lumen")
    passages = encode_passages(NUMPY, w, PASSAGES)
    log_p = log_likelihood(NUMPY, w, lumen(NUMPY, w, QUESTION, passages, COUNTS), TARGET)
    assert got.value == pytest.approx(-log_p.sum() / 6, rel=1e-12)
    assert set(got.terms) == {"lm"}
    assert got.scores is None
    assert [list(rows) for rows in got.selected] == [list(range(k)) for k in COUNTS]


def test_the_passages_to_read_can_be_chosen() -> None:
    """Even another number for each question; the scores are not asked."""
    w = model(NUMPY, tiny())
    seen: list[Any] = []

    def override(scores: np.ndarray, best: list[Ints]) -> list[Ints]:
        seen.append((scores, best))
        return LAST

    got = batch_loss(NUMPY, w, override=override)
    plain = batch_loss(NUMPY, w)
    assert got.selected is LAST
    np.testing.assert_array_equal(seen[0][0], plain.scores)
    np.testing.assert_array_equal(np.stack(seen[0][1]), np.stack(plain.selected))
    assert got.terms["pdist"].value == plain.terms["pdist"].value
    assert got.terms["lm"].value != plain.terms["lm"].value


def test_what_a_loss_does_not_touch_has_gradient_0() -> None:
    w = model(NUMPY, tiny(score_norm=True))
    for system, how in (("lumen", None), ("glimmer", Distillation(0.0))):
        _, of = gradients(w, partial(batch_loss, w=w, system=system, distillation=how))
        assert {name for name, g in of.items() if not g.any()} == {"score.norm", "score.weight"}
        assert all(of[name].shape == x.shape and of[name].dtype == x.dtype for name, x in leaves(w).items())
    _, of = gradients(w, partial(batch_loss, w=w, system="fid"))
    assert {name for name, g in of.items() if not g.any()} == {"score.norm", "score.weight"}


def test_a_frozen_memory_learns_from_the_question_alone() -> None:
    w = model(NUMPY, tiny(question_encoder="separate"))
    _, of = gradients(w, partial(batch_loss, w=w, frozen=True, distillation=FULL))
    still = {name for name, g in of.items() if not g.any()}
    assert still == {name for name in of if name.startswith("memory.")}


# The tape itself.


def test_a_tape_hears_all_places_and_passes_names_on() -> None:
    w = model(NUMPY, tiny())
    trace, plain = Trace(NUMPY), Trace(NUMPY)
    _, direct = gradients(w, partial(batch_loss, w=w))
    tape = Tape(trace)
    got = batch_loss(tape.scope("here"), w)
    batch_loss(plain.scope("here"), w)
    assert list(trace.arrays) == list(plain.arrays)
    of = tape.gradients(got.output_grads, leaves(w))
    assert all(np.array_equal(of[name], direct[name]) for name in of)
    assert not tape.calls


def test_gradients_of_some_arrays_only() -> None:
    """Also of one that operations made; what leads to no other is not replayed."""
    w = model(NUMPY, tiny())
    _, all_of_them = gradients(w, partial(batch_loss, w=w, distillation=FULL))
    tape, replayed = Tape(NUMPY), []
    memory = encode_passages(tape, w, PASSAGES)
    got = loss(tape, w, "glimmer", QUESTION, memory, COUNTS, TARGET, 2, FULL)
    some = {"decoder.final_norm": w.decoder.final_norm, "memory": memory.states}
    tape.ops = types.SimpleNamespace(to_device=NUMPY.to_device, to_host=NUMPY.to_host, add=NUMPY.add, backward={
        name: lambda *a, f=f, name=name: (replayed.append(name), f(*a))[1] for name, f in NUMPY.backward.items()
    })  # fmt: skip
    of = tape.gradients(got.output_grads, some)
    np.testing.assert_array_equal(of["decoder.final_norm"], all_of_them["decoder.final_norm"])
    memory_alone = differences(
        lambda: loss(NUMPY, w, "glimmer", QUESTION, memory, COUNTS, TARGET, 2, FULL).value, memory.states
    )
    assert apart(of["memory"], memory_alone) < CLOSE
    assert "embed" not in replayed


def test_output_grads_add_up() -> None:
    x, y = np.array([[1.0, -2.0]]), np.array([[3.0, 4.0]])
    tape = Tape(NUMPY)
    z = tape.add(x, tape.add(x, y))
    twice = tape.scale(z, 2.0)
    of = tape.gradients([(twice, np.ones((1, 2))), (z, [[1.0, 0.0]])], {"x": x, "y": y})
    np.testing.assert_array_equal(of["x"], [[6, 4]])
    np.testing.assert_array_equal(of["y"], [[3, 2]])


def test_a_tape_refuses() -> None:
    x = np.ones((1, 2))
    half = backend(relu_backward=None, dot_backward=None)
    with pytest.raises(InputError, match=r"a backward of every operation; got no dot_backward, relu_backward"):
        Tape(Ops(half))
    half.relu_backward = lambda a, dy: (dy,)
    with pytest.raises(InputError, match=r"no relu_backward\(dy, a\)"):
        Ops(half)
    for inner in (
        Dropout(NUMPY, 0.1, np.random.default_rng(0)),
        MacCounter(Dropout(NUMPY, 0.1, np.random.default_rng(0))),
    ):
        with pytest.raises(InputError, match="Dropout around it; got Dropout inside"):
            Tape(inner)
    tape = Tape(NUMPY)
    y = tape.relu(x)
    with pytest.raises(InputError, match=r"output 0: expected a gradient of shape \[1, 2\]"):
        tape.gradients([(y, np.ones(2))], {"x": x})
    with pytest.raises(InputError, match="output 0: expected a result on the tape"):
        tape.gradients([(x, x)], {"x": x})
    with pytest.raises(InputError, match="one array for a and b"):
        tape.gradients([(y, x)], {"a": x, "b": x})
    tape.gradients([(y, x)], {"x": x})
    with pytest.raises(InputError, match="replay once"):
        tape.gradients([(y, x)], {"x": x})


def test_packed_weights_get_plain_gradients() -> None:
    """The fast backend's forward with the reference's backward: float32 weights in panels, by identity as others."""
    mixed = types.ModuleType("mixed")
    vars(mixed).update(vars(cpu_ops))
    for name in interface.BACKWARD:
        setattr(mixed, name, of_plain_weights(getattr(numpy_backend, name)))
    settings = tiny(t5=replace(TINY, scale_decoder_outputs=True))
    plain = random(settings, 0, "float32", tied=True)
    results = []
    for ops, w in ((NUMPY, plain), (Ops(mixed), prepare_params(bind("numba"), plain))):
        tape = Tape(ops)
        got = batch_loss(tape, w, distillation=FULL)
        results.append(tape.gradients(got.output_grads, leaves(w)))
    for name, expected in results[0].items():
        assert type(results[1][name]) is np.ndarray
        assert np.abs(results[1][name] - expected).max() < 1e-4 * max(np.abs(expected).max(), 0.1), name


def of_plain_weights(backward: Any) -> Any:
    """The same backward, given packed weights as they were before."""

    @wraps(backward)
    def call(*args: Any) -> Any:
        return backward(*(cpu_ops.to_host(x) if isinstance(x, cpu_ops.Packed) else x for x in args))

    return call


# Dropout.


def test_the_same_generator_drops_the_same() -> None:
    w = model(NUMPY, tiny())
    values = [batch_loss(Dropout(NUMPY, 0.2, np.random.default_rng(s)), w).value for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    rng = np.random.default_rng(1)
    assert batch_loss(Dropout(NUMPY, 0.0, rng), w).value == batch_loss(NUMPY, w).value
    assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="a rate from 0 to below 1"):
            Dropout(NUMPY, rate, rng)


def test_dropout_keeps_the_expectation() -> None:
    x, ops = np.full((400, 500), 3.0), Dropout(NUMPY, 0.25, np.random.default_rng(0))
    got = ops.dropout(x)
    np.testing.assert_allclose(np.unique(got), [0, 4])
    assert (got == 0).mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / x.size) ** 0.5)
    case = Case([(20, 30)], heads=2, c=3)
    args = case.attention("float64", causal=False)
    runs = [ops.attention(*args) for _ in range(400)]
    spread = np.std(runs, axis=0) / 20
    assert np.abs((np.mean(runs, axis=0) - NUMPY.attention(*args)) / spread).max() < 5


def test_gradients_under_dropout() -> None:
    """Differences with the same draws; p_LM is read without dropout, or with, as its gradient is wanted."""
    w = model(NUMPY, tiny(), seed=6)
    for how in (FULL, Distillation(0.0)):
        tape = Tape(NUMPY)
        got = batch_loss(Dropout(tape, 0.2, np.random.default_rng(3)), w, distillation=how)
        of = tape.gradients(got.output_grads, leaves(w))
        again = batch_loss(Dropout(NUMPY, 0.2, np.random.default_rng(3)), w, distillation=how)
        assert got.value == again.value
        against_directions(
            w,
            of,
            lambda: batch_loss(Dropout(NUMPY, 0.2, np.random.default_rng(3)), w, distillation=how).value,  # noqa: B023
        )


@pytest.mark.parametrize("gradient", [False, True])
def test_p_lm_is_read_without_dropout_unless_it_learns(gradient: bool) -> None:
    w = model(NUMPY, tiny())
    tape = Tape(NUMPY)
    batch_loss(Dropout(tape, 0.3, np.random.default_rng(0)), w, distillation=Distillation(gradient=gradient))
    (used,) = [r.arguments[1] for r in tape.calls if r.operation == "rank_kl"]
    dropping = Dropout(NUMPY, 0.3, np.random.default_rng(0))
    ranked = rank(dropping, w, QUESTION, encode_passages(dropping, w, PASSAGES), COUNTS)
    still = log_p_lm(NUMPY, w, ranked, COUNTS, TARGET, "sum")
    assert np.array_equal(used, still) is not gradient
    assert any(r.result is used for r in tape.calls) is gradient


def test_dropout_is_where_t5_has_it() -> None:
    """What is dropped, by the operation that made it: the embeddings and the final norm of both stacks, every hidden
    layer, whatever adds to a residual, and the probabilities of all attention."""
    w = model(NUMPY, tiny())
    tape = Tape(NUMPY)
    ops = Dropout(tape, 0.5, np.random.default_rng(0))
    log_likelihood(ops, w, fid(ops, w, QUESTION, PASSAGES, COUNTS), TARGET)
    made_by = {id(r.result): r.operation for r in tape.calls}
    dropped = [made_by[id(r.arguments[0])] for r in tape.calls if r.operation == "multiply"]
    layers, blocks = 4, 3 * 2 + 1 * 3  # encoder and decoder layers; what adds to a residual
    expected = {"embed": 2, "rms_norm": 2, "gated_gelu": layers, "linear": blocks}
    assert {name: dropped.count(name) for name in set(dropped)} == expected
    assert all(r.arguments[7] is not None for r in tape.calls if r.operation == "attention")


# Refusals.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": -1.0}, "pdist: weight: expected a number 0 or more"),
        ({"tau": 0}, "pdist: tau: expected a number above 0"),
        ({"tau": float("nan")}, "pdist: tau"),
        ({"tau": "1"}, "pdist: tau"),
        ({"direction": "forward"}, "pdist: direction: expected one of printed, reverse"),
        ({"likelihood": "max"}, "pdist: likelihood: expected one of sum, mean"),
        ({"gradient": 1}, "pdist: gradient: expected true or false"),
    ],
)
def test_distillation_refuses(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Distillation(**change)


def test_a_target_for_every_question() -> None:
    w = model(NUMPY, tiny())
    with pytest.raises(InputError, match="one target for each of 2 questions; got 1"):
        loss(NUMPY, w, "fid", QUESTION, PASSAGES, COUNTS, tokens([3], 1, 9), 2)
