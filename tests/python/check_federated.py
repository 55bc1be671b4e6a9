"""Checks figures of the mesh against packages that are not ours: privacy against Google's dp-accounting, steps of the
coordinator against Flower's strategies. Reads one JSON object from standard input; exits with 1 and says what differs."""

import json
import sys
import warnings

import numpy
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.optimize import brentq
from scipy.stats import norm

warnings.filterwarnings("ignore")
wrong = []


# Their default width. Where epsilon is small it alone is per cents of it: there ours may be below their upper bound.
SPACING = 1e-4


def composed(q, sigma, steps, pessimistic):
    one = pld.from_gaussian_mechanism(
        sigma,
        sampling_prob=q,
        pessimistic_estimate=pessimistic,
        use_connect_dots=pessimistic,
        value_discretization_interval=SPACING,
    )
    return one.self_compose(steps)


def closed_form(sigma, steps, delta):
    """Balle and Wang 2018, theorem 8."""
    s = steps**0.5 / sigma
    excess = lambda e: norm.cdf(s / 2 - e / s) - numpy.exp(e + norm.logcdf(-s / 2 - e / s)) - delta
    return brentq(excess, 0.0, s * s / 2 + s * (-2 * numpy.log(delta)) ** 0.5, xtol=1e-12)


def accountant(cases):
    distributions = {}
    for case in cases:
        q, sigma, steps, delta, ours = (case[k] for k in ("q", "sigma", "steps", "delta", "epsilon"))
        event = (q, sigma, steps)
        if event not in distributions:
            distributions[event] = [composed(*event, pessimistic) for pessimistic in (True, False)]
        theirs, least = [one.get_epsilon_for_delta(delta) for one in distributions[event]]
        ratio = ours / theirs
        print(f"{case} ratio {ratio:.6f} optimistic {least:.6f}")
        if not (1.0 <= ratio or theirs < 1.0) or ratio > 1.01 or ours < least:
            wrong.append(f"{case}: dp-accounting says {theirs}, at least {least}")
        if q == 1.0:
            exact = closed_form(sigma, steps, delta)
            if abs(ours / exact - 1) > 1e-3:
                wrong.append(f"{case}: the closed form is {exact}")


def strategies(cases):
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server import strategy as flower

    start = numpy.array(cases["start"], dtype=numpy.float64)
    adaptive = dict(eta=cases["server_learning_rate"], tau=cases["tau"])
    momenta = dict(beta_1=cases["beta_1"], beta_2=cases["beta_2"])
    initial = ndarrays_to_parameters([start])
    theirs = {
        "fed-avg": flower.FedAvg(initial_parameters=initial),
        "fed-prox": flower.FedProx(initial_parameters=initial, proximal_mu=0.1),
        "fed-adam": flower.FedAdam(initial_parameters=initial, **adaptive, **momenta),
        "fed-yogi": flower.FedYogi(initial_parameters=initial, **adaptive, **momenta),
        "fed-adagrad": flower.FedAdagrad(initial_parameters=initial, **adaptive),
    }
    for name, ours in cases["models"].items():
        model = start
        for number, members in enumerate(cases["rounds"], 1):
            results = []
            for member in members:
                trained = ndarrays_to_parameters([model + numpy.array(member["update"])])
                results.append((None, FitRes(Status(Code.OK, ""), trained, member["records"], {})))
            after, _ = theirs[name].aggregate_fit(number, results, [])
            model = parameters_to_ndarrays(after)[0]
        apart = float(numpy.max(numpy.abs(model - numpy.array(ours))))
        print(f"{name}: {apart:.2e} apart after {len(cases['rounds'])} rounds of {len(start)} parameters")
        if not apart <= 1e-6:
            wrong.append(f"{name}: {apart} apart")


given = json.load(sys.stdin)
accountant(given["accountant"])
strategies(given["strategies"])
if not given["accountant"] or len(given["strategies"]["models"]) < 5:
    wrong.append("nothing was checked")
for line in wrong:
    print(line, file=sys.stderr)
sys.exit(1 if wrong else 0)
