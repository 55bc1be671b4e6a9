"""Times work of federated learning in packages that are not ours. Reads one JSON object from standard input and prints the
seconds that the work alone took."""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")


def accountant(given):
    from dp_accounting.pld import privacy_loss_distribution as pld

    start = time.perf_counter()
    for q, sigma, steps in given["events"]:
        one = pld.from_gaussian_mechanism(sigma, sampling_prob=q, pessimistic_estimate=True)
        one.self_compose(steps).get_epsilon_for_delta(given["delta"])
    return time.perf_counter() - start


def aggregate(given):
    import numpy
    from flwr.server.strategy.aggregate import aggregate as mean

    random = numpy.random.default_rng(1)
    update = random.standard_normal(given["parameters"], dtype=numpy.float32)
    updates = [([update.copy()], 100) for _ in range(given["updates"])]
    start = time.perf_counter()
    mean(updates)
    return time.perf_counter() - start


def key_stream(given):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    zeros = bytes(given["bytes"])
    into = bytearray(given["bytes"] + 16)
    start = time.perf_counter()
    for stream in range(given["streams"]):
        key = stream.to_bytes(32, "little")
        Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update_into(zeros, into)
    return time.perf_counter() - start


WORK = {"accountant": accountant, "aggregate": aggregate, "key-stream": key_stream}
given = json.load(sys.stdin)
print(WORK[given["work"]](given))
