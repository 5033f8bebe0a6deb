"""The benchmark: Wakeful against the bare limit of the machine it runs on.

Absolute milliseconds differ from machine to machine and from hour to hour; a ratio taken within one run differs little. So both
sides of every comparison are measured in the same run, in alternating rounds, and the median of the rounds counts. Answers are
checked outside the timed part; a number whose run saw a wrong or refused answer is void, whatever its size.

    figures      what a number is: rounds, unit, target, verdict
    texts        texts of a known length in tokens
    policies     ways to cut texts into batches when all are known beforehand
    bare · bare_worker      ONNX Runtime alone, a process for each core
    bare_uvicorn · trivial  Starlette alone, and the function both sides call
    wrk · latency           throughput and one connection's latency over HTTP
    children · memory       processes we start and end, and what a cluster's processes hold
    serving · handle        `wakeful up`, `wakeful run`, and the price of a DeploymentHandle
    setting · oracle        what every experiment is given, and whether answers are right
    experiments · startup   which numbers
    run · report · command  in what order, as what table, on whose word
    tensors · floor · behind   large tensors in binary against sockets and one copy, also behind an HAProxy

Each by itself, as ``python -m loadtests.bench.NAME``:

    streaming · bare_streams · dripping    answers that stream
    reading · company       `ocr`: the framework's share of a page, lines a run
    listening               `listen`: sixteen streams of sound
    hop · hop_stages · hop_clients         what it costs to split a stage off, and by which client
"""
