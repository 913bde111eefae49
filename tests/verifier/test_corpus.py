"""The corpora: rules written by hand, one-line mutants of them, and rules that jax and optax publish.

What is proved stays proved (``UNPROVED`` may only shrink), no right rule is refuted, no wrong one proved.
"""

import linecache
import re
import warnings

import corpus
import jax
import pytest
from corpus import public, verdict
from selecting import all_but

import handprop as v

RULES = {rule.name: rule for rule in corpus.right_rules()}
MUTANTS = corpus.mutants()
NO_RELATION = "it knows no identity that makes"
UNPROVED = {  # what stops each proof
    "selu": NO_RELATION,  # a product of two literals, folded by Python
    "kl_divergence": NO_RELATION,  # log(p/q) = log p - log q holds for positive numbers only
    "group_norm": NO_RELATION,  # the variance as a difference, clipped at 0
    "sort": "truth values",
}
KINDS = {
    "sign", "factor 2", "factor 1/2", "factor N", "dropped term", "wrong axis", "missing transpose", "mean for sum",
    "missing derivative", "derivative at z", "applied twice", "cotangent ignored", "cotangent squared", "swapped",
    "wrong residual", "off by 1e-4", "off by 1e-6", "off by 1e-7", "one element", "saturated", "negative only",
    "wrong dtype", "wrong primal", "stop_gradient", "mask missing", "literal",
}  # fmt: skip


def report_of(rule, args, *checks):
    return verdict.report_of(rule, args, skip=all_but(*checks))


def args_of(mutant, rule):
    return rule.make_args(size=max(mutant.size, corpus.SIZE))


def one_of_each_kind():
    """The first mutant of each kind, and all whose fault is below float32's resolution."""
    first = {mutant.kind: mutant for mutant in reversed(MUTANTS)}
    return [m for m in MUTANTS if (m.kind in KINDS and first[m.kind] is m) or m.seen_in == "float64"]


def test_the_corpora_are_as_large_as_promised():
    assert len(RULES) >= 40
    assert len(MUTANTS) >= 150
    assert {mutant.kind for mutant in MUTANTS} >= KINDS
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)
    assert len(UNPROVED) <= 0.1 * len(RULES)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", RULES)
def test_a_right_rule_stays_proved(name):
    rule = RULES[name]
    if name not in UNPROVED:
        report = report_of(rule, rule.make_args(), "structure", "proof")
        assert report.verdict is v.Verdict.PROVED, report
    else:
        report = report_of(rule, rule.make_args(), "structure", "proof", "rounding")
        assert report.verdict is v.Verdict.VERIFIED, report
        assert UNPROVED[name] in report.check("proof").summary


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", RULES)
def test_no_mutant_is_proved(name):
    for mutant in MUTANTS:
        if mutant.rule == name:
            rule = mutant.load()
            report = report_of(rule, args_of(mutant, rule), "structure", "proof")
            assert report.verdict is not v.Verdict.PROVED, (mutant, report)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("mutant", one_of_each_kind(), ids=lambda mutant: f"{mutant.kind}: {mutant.name}")
def test_a_mutant_is_refuted_with_an_input(mutant):
    rule = mutant.load()
    report = report_of(rule, args_of(mutant, rule), "structure", "proof", "rounding")
    assert report.verdict is v.Verdict.REFUTED, report
    counterexample = report.counterexample
    if counterexample is None:
        assert mutant.kind == "wrong dtype"
        return
    got, want = counterexample.replay()
    assert (got, want) == (counterexample.worst.got, counterexample.worst.want)
    assert got != want
    assert v.Report.from_json(report.to_json()) == report


def as_it_runs(rule, args):
    """What a rule's gradient is, its program, what its parts close over and the globals that they see."""

    def gradient(*args):
        if rule.loss is not None:
            return rule.function(*args)
        y, pull = jax.vjp(rule.function, *args)
        return y, pull(jax.tree.map(jax.numpy.ones_like, y))

    parts = [getattr(rule.function, name, None) for name in ("fun", "fwd", "bwd", "jvp")]
    parts = [part for part in (*parts, rule.function) if hasattr(part, "__code__")]
    seen = [(part.__code__, dict(part.__globals__), [cell.cell_contents for cell in part.__closure__ or ()])
            for part in parts]  # fmt: skip
    program = jax.make_jaxpr(gradient)(*args)
    return [x.tobytes() for x in map(jax.numpy.asarray, jax.tree.leaves(gradient(*args)))], str(program), seen


@pytest.mark.thinned(4)
@pytest.mark.parametrize("mutant", one_of_each_kind()[::3], ids=lambda mutant: f"{mutant.kind}: {mutant.name}")
def test_after_a_report_with_its_search_for_a_fix_the_rule_is_what_it_was(mutant):
    rule = mutant.load()
    args = args_of(mutant, rule)
    before = as_it_runs(rule, args)
    assert report_of(rule, args, "structure", "proof", "rounding", "repair").verdict is v.Verdict.REFUTED
    after = as_it_runs(rule, args)
    assert after[0] == before[0]
    assert re.sub(r" at 0x\w+", "", after[1]) == re.sub(r" at 0x\w+", "", before[1])
    for (code, seen, held), (old_code, old_seen, old_held) in zip(after[2], before[2], strict=True):
        assert code is old_code
        assert {name: id(x) for name, x in seen.items()} == {name: id(x) for name, x in old_seen.items()}
        assert all(x is y for x, y in zip(held, old_held, strict=True))


def test_source_lines_of_a_mutant_are_its_own():
    mutant = next(m for m in MUTANTS if m.rule == "cross_entropy")
    rule = mutant.load()
    value, residuals = rule.function.fwd(*rule.make_args())
    text = jax.jit(rule.function.bwd).lower(residuals, value).as_text(debug_info=True)
    assert f'[{mutant.name}].py":{mutant.line}:' in text
    assert linecache.getline(mutant.filename, mutant.line).strip() == mutant.new


def test_a_mutant_whose_line_is_gone_says_so():
    gone = MUTANTS[0]._replace(old="no such line")
    with pytest.raises(ValueError, match=r"stands 0 times in sigmoid_bwd of activations\.py"):
        gone.load()


def test_every_published_rule_is_called_or_said_why_not():
    known = {*public.CALLS, *public.NOT_CALLED, public.SPLASH}
    with warnings.catch_warnings():  # modules that are on their way out
        warnings.simplefilter("ignore", DeprecationWarning)
        found = set(public.found())
    assert len(found) > 40
    assert jax.__version__ not in public.LOOKED_THROUGH or found <= known, found - known


QUICK = ("relu", "log1mexp", "_softmax", "logit", "xlogy", "_mha_reference", "weighted_logsoftmax")


@pytest.mark.thinned(3)
@pytest.mark.parametrize("rule", [r for r in public.public_rules() if r.path.rpartition(".")[2] in QUICK],
                         ids=lambda rule: rule.path)  # fmt: skip
def test_published_rules_are_proved(rule):
    report = v.verify(rule.function, *rule.args, reference=rule.reference, skip=all_but("structure", "proof"))
    assert report.verdict is v.Verdict.PROVED, report
