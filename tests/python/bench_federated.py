"""Times work of federated learning in packages that are not ours. Reads one JSON object from standard input and prints the
seconds that the work alone took."""

import json
import logging
import socket
import statistics
import subprocess
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
    spent = []
    for _ in range(6):
        start = time.perf_counter()
        mean(updates)
        spent.append(time.perf_counter() - start)
    return spent


def key_stream(given):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    zeros = bytes(given["bytes"])
    into = bytearray(given["bytes"] + 16)
    start = time.perf_counter()
    for stream in range(given["streams"]):
        key = stream.to_bytes(32, "little")
        Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update_into(zeros, into)
    return time.perf_counter() - start


# The largest message of the rounds.
MOST = 2**30


def client(address):
    """A client that gives back what it was given."""
    from flwr.client import NumPyClient, start_client

    class Nothing(NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

    start_client(
        server_address=address,
        client=Nothing().to_client(),
        insecure=True,
        grpc_max_message_length=MOST,
    )


def no_op(given):
    """Of Flower's older server, which holds everything in memory and asks its clients by one stream of gRPC."""
    import numpy
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    ends = []

    class Timed(FedAvg):
        def aggregate_fit(self, number, results, failures):
            made = super().aggregate_fit(number, results, failures)
            assert len(results) == 2, failures
            ends.append(time.perf_counter())
            return made

    logging.getLogger("flwr").setLevel(logging.ERROR)
    address = f"127.0.0.1:{free_port()}"
    zeros = numpy.zeros(given["parameters"], dtype=numpy.float32)
    strategy = Timed(
        fraction_evaluate=0.0,
        min_fit_clients=2,
        min_available_clients=2,
        initial_parameters=ndarrays_to_parameters([zeros]),
    )
    command = [sys.executable, __file__, address]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clients = [subprocess.Popen(command, **quiet) for _ in range(2)]
    try:
        start_server(
            server_address=address,
            config=ServerConfig(num_rounds=given["rounds"]),
            strategy=strategy,
            grpc_max_message_length=MOST,
        )
    finally:
        for one in clients:
            one.kill()
            one.wait()
    return statistics.median(after - before for before, after in zip(ends, ends[1:]))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def deployed(given):
    """Of Flower as it is deployed: a SuperLink, two SuperNodes and an app that is run there, all processes of their own."""
    import os
    import pathlib
    import shutil
    import tempfile

    here, home = pathlib.Path(sys.executable).parent, pathlib.Path(tempfile.mkdtemp())
    app = pathlib.Path(__file__).parent / "flower"
    link, times = free_port(), home / "times.json"
    address = f"127.0.0.1:{link}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    own = {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    own["PATH"] = f"{here}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = dict(
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | own,
        start_new_session=True,
    )
    only_here = "--disable-runtime-dependency-installation"
    servers = [
        subprocess.Popen(
            [here / "flower-superlink", "--insecure", only_here, "--port", str(link)], **quiet
        )
    ]
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", link), 1).close()
                break
            except OSError:
                assert servers[0].poll() is None, "the SuperLink ended"
                time.sleep(0.2)
        for _ in range(2):
            node = [here / "flower-supernode", "--insecure", "--superlink", address]
            servers.append(subprocess.Popen([*node, "--port", str(free_port())], **quiet))
        config = f"parameters={given['parameters']} rounds={given['rounds']} times='{times}'"
        run = [here / "flwr", "run", str(app), "here", "--stream", "-c", config]
        subprocess.run(run, check=True, timeout=600, **quiet)
        ends = json.loads(times.read_text())
    finally:
        for server in servers:
            # What it started itself too.
            os.killpg(server.pid, 9)
            server.wait()
        shutil.rmtree(home, ignore_errors=True)
    return statistics.median(after - before for before, after in zip(ends, ends[1:]))


def train(work):
    """Stochastic gradient descent of a model of the same shape; nothing where PyTorch is not installed."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    given = work["given"]
    model, inputs, windows = given["model"], given["inputs"], given["windows"]
    torch.manual_seed(1)

    class Gru(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(inputs, model["hidden"], batch_first=True)
            self.out = torch.nn.Linear(model["hidden"], 1)

        def forward(self, rows):
            states, _ = self.gru(rows.view(-1, windows, inputs))
            return self.out(states[:, -1])

    if model["kind"] == "gru":
        net = Gru()
    else:
        widths = [inputs * windows, *model.get("hidden", [])]
        layers = []
        for before, after in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1))
    values = torch.rand(4000, inputs * windows) * 2 - 1
    labels = (values.sum(1, keepdim=True) > 0).float()
    descent = torch.optim.SGD(net.parameters(), lr=0.01)
    loss = torch.nn.BCEWithLogitsLoss()
    batch, steps = given["batch"], given["steps"]

    def run(steps):
        order, at = torch.randperm(len(values)), 0
        for _ in range(steps):
            if at + batch > len(order):
                order, at = torch.randperm(len(values)), 0
            rows = order[at : at + batch]
            descent.zero_grad()
            loss(net(values[rows]), labels[rows]).backward()
            descent.step()
            at += batch

    run(20)
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


WORK = {
    "accountant": accountant,
    "aggregate": aggregate,
    "deployed": deployed,
    "key-stream": key_stream,
    "no-op": no_op,
    "train": train,
}
if len(sys.argv) > 1:
    client(sys.argv[1])
else:
    given = json.load(sys.stdin)
    print(json.dumps(WORK[given["work"]](given)))
