"""Rounds in which nothing is learnt, as an app of Flower: clients give back what they were given. The server writes when each
round ended, in seconds of one clock, into the file that its configuration names."""

import json
import time

import numpy
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    given = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(given), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    config, ends = context.run_config, []

    class Timed(FedAvg):
        def aggregate_train(self, server_round, replies):
            made = super().aggregate_train(server_round, replies)
            ends.append(time.perf_counter())
            return made

    strategy = Timed(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2
    )
    zeros = numpy.zeros(int(config["parameters"]), dtype=numpy.float32)
    strategy.start(
        grid=grid, initial_arrays=ArrayRecord([zeros]), num_rounds=int(config["rounds"])
    )
    with open(config["times"], "w") as file:
        json.dump(ends, file)
