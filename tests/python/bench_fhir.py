"""Judges resources, one a line of standard input, by the models of fhir.resources; prints how many it judged a second."""

import sys
import time

from fhir.resources.R4B.condition import Condition
from fhir.resources.R4B.observation import Observation

lines = sys.stdin.read().splitlines()
models = [Condition if '"Condition"' in line else Observation for line in lines]
for model, line in list(zip(models, lines))[:4]:
    model.model_validate_json(line)
start = time.perf_counter()
for model, line in zip(models, lines):
    model.model_validate_json(line)
print(len(lines) / (time.perf_counter() - start))
