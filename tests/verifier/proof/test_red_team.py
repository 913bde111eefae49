"""Pairs built to deceive the proof, and equal ones in unusual forms: none that differ is proved, and what is proved of
the equal ones stays proved (``UNPROVED`` may only shrink; some of these are proved by one version of jax and not by
another).
"""

import jax
import pytest
from corpus import red_team
from selecting import all_but

import handprop as v

CASES = red_team.cases()
SECONDS = 60.0  # a loaded machine is not what is tested
PROOF_ALONE = all_but("structure", "proof")
UNPROVED = {
    "callback_itself", "cast_truncation_is_signed_floor", "clamp_both_ends_infinite", "complex_norm",
    "domain_abs_by_root",
    "domain_asinh", "fact_adjugate", "fact_cho_solve", "fact_whitening",
    "gradient_of_tied_max", "label_fourier_round_trip", "label_named_norm", "label_shards_alike",
    "mask_of_two_places", "pos_norm_ratio", "pos_softplus_of_square", "power_factor_without_sign", "rare_two_of_three",
    "ref_as_a_variable", "ref_loop_sum", "root_of_37_times_68413", "size_long_dot", "size_solve",
    "sized_tan_beyond_its_pole_decided", "stale_nothing",
}  # fmt: skip
if jax.__version_info__ >= (0, 12):  # its derivative of a determinant makes decisions of its own
    UNPROVED |= {"rule_determinant"}


def report_of(case):
    if case.call is not None:
        return case.call(case.f, case.g, *case.args, skip=PROOF_ALONE)
    return v.equivalent(case.f, case.g, *case.args, skip=PROOF_ALONE, budget=SECONDS)


@pytest.mark.thinned(14)
@pytest.mark.usefixtures("jax_as_it_comes")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.truth == "different"])
@pytest.mark.filterwarnings("ignore")
def test_no_pair_that_differs_is_proved(name):
    report = report_of(CASES[name])
    proved = report.check("proof").outcome is v.Outcome.PROVES
    if CASES[name].kind in red_team.CONDITIONAL:
        assert not proved or report.conditions or name in red_team.MISSED, report
    else:
        assert proved == (name in red_team.MISSED), report


@pytest.mark.thinned(3)
@pytest.mark.usefixtures("jax_as_it_comes")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.truth == "equal"])
@pytest.mark.filterwarnings("ignore")
def test_equal_pairs_stay_proved(name):
    if name in red_team.REFUSED:
        with pytest.raises(TypeError, match="calls no custom_vjp or custom_jvp rule"):
            report_of(CASES[name])
        return
    report = report_of(CASES[name])
    assert report.verdict is v.Verdict.PROVED or name in UNPROVED, report
