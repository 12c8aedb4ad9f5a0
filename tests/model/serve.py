"""Serves a model of a GGUF file as an OpenAI-compatible endpoint: serve.py FILE PORT CONTEXT."""

import signal
import sys

import xllamacpp

path, port, context = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.hostnames = ["127.0.0.1"]
params.port = int(port)
params.n_ctx = int(context)
params.n_parallel = 1
params.cpuparams.n_threads = 2
params.sampling.seed = 7
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
